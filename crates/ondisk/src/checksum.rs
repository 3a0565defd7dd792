//! Checksums as the on-disk formats use them.

use crc::{Algorithm, Crc, Table};

const CRC32: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Polynomial 0x04c11db7 reflected, no final inversion.
static CRC32_RAW: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC32_RAW_ALGORITHM);
static CRC32_RAW_ALGORITHM: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0x2dfd_2d88,
    residue: 0,
};

/// Polynomial 0x04c11db7, not reflected, no final inversion: the kernel's `crc32_be`.
static CRC32_BE: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC32_BE_ALGORITHM);
static CRC32_BE_ALGORITHM: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
};

/// Polynomial 0x8005 reflected (0xA001), the caller's initial value, no final inversion.
static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&crc::CRC_16_ARC);

/// CRC-32 of GPT and gzip (reflected 0x04c11db7, initial and final inversion).
pub fn crc32_ieee(bytes: &[u8]) -> u32 {
    CRC32.checksum(bytes)
}

/// CRC-32 of GPT without inversions, state in, state out (LVM2 starts from a value of its own).
pub fn crc32_raw(state: u32, bytes: &[u8]) -> u32 {
    // `digest_with_initial` takes the register before reflection.
    let mut digest = CRC32_RAW.digest_with_initial(state.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// CRC-32C with initial and final inversion.
pub fn crc32c_standard(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC-32C as ext4, jbd2 and XFS chain it: reflected 0x82F63B78, state in, state out, no inversion.
pub fn crc32c_raw(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

/// CRC-32 with the polynomial not reflected, state in, state out (jbd2 checksum version 1).
pub fn crc32_be_raw(state: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32_BE.digest_with_initial(state);
    digest.update(bytes);
    digest.finalize()
}

/// CRC-16 of old ext4 group descriptors: reflected 0x8005, state in, state out.
pub fn crc16_ansi(state: u16, bytes: &[u8]) -> u16 {
    // `digest_with_initial` takes the register before reflection.
    let mut digest = CRC16.digest_with_initial(state.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &[u8] = b"123456789";

    #[test]
    fn catalogue_check_values() {
        assert_eq!(crc32_ieee(CHECK), 0xcbf4_3926);
        assert_eq!(crc32c_standard(CHECK), 0xe306_9283);
        assert_eq!(!crc32c_raw(!0, CHECK), 0xe306_9283);
        assert_eq!(!crc32_raw(!0, CHECK), 0xcbf4_3926);
        assert_eq!(crc32_raw(0, CHECK), 0x2dfd_2d88);
        assert_eq!(!crc32_be_raw(!0, CHECK), 0xfc89_1918); // CRC-32/BZIP2
        assert_eq!(crc16_ansi(0, CHECK), 0xbb3d);
        assert_eq!(crc16_ansi(0xffff, CHECK), 0x4b37); // CRC-16/MODBUS
    }

    #[test]
    fn states_chain() {
        let (head, tail) = CHECK.split_at(4);
        assert_eq!(crc32c_raw(crc32c_raw(7, head), tail), crc32c_raw(7, CHECK));
        assert_eq!(crc32_be_raw(crc32_be_raw(7, head), tail), crc32_be_raw(7, CHECK));
        assert_eq!(crc32_raw(crc32_raw(7, head), tail), crc32_raw(7, CHECK));
        assert_eq!(crc16_ansi(crc16_ansi(7, head), tail), crc16_ansi(7, CHECK));
    }
}
