//! The guest's VGA text screen as text.
//!
//! An image without a serial console says on the screen alone why it does not boot. The lab reads
//! the text memory of the emulated VGA adapter, so nothing has to be added to the guest. This works
//! as long as the guest stays in text mode, which the recipes see to with GRUB's `console` terminal.

/// Guest-physical address of the VGA text window.
pub const TEXT_WINDOW: u64 = 0xb_8000;
/// Its size: the console scrolls by moving its start within the whole window.
pub const TEXT_WINDOW_LEN: u64 = 0x8000;

const COLUMNS: usize = 80;

/// The lines that hold text, in memory order; attributes are dropped.
pub fn text_of(window: &[u8]) -> String {
    let mut text = String::new();
    for row in window.chunks(COLUMNS * 2) {
        let line: String = row
            .iter()
            .step_by(2)
            .map(|&cell| if cell.is_ascii_graphic() { char::from(cell) } else { ' ' })
            .collect();
        let line = line.trim_end();
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_empty_rows_vanish() {
        let mut window = vec![0u8; COLUMNS * 2 * 3];
        for (cell, byte) in b"ALERT!  x".iter().enumerate() {
            window[COLUMNS * 2 + cell * 2] = *byte;
            window[COLUMNS * 2 + cell * 2 + 1] = 0x07;
        }
        assert_eq!(text_of(&window), "ALERT!  x\n");
    }
}
