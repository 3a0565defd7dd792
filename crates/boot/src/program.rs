//! Which files of a menu are kernels.

/// True for programs that menus start in the way of a kernel and that take none of its arguments.
pub fn is_other_program(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    ["memtest", "mt86", "ipxe", "memdisk"].iter().any(|program| name.starts_with(program))
}
