//! The hashes that order an htree (`lib/ext2fs/dirhash.c` of e2fsprogs describes all three).

/// Which hash, by the number in the htree root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashKind {
    Legacy,
    HalfMd4,
    Tea,
}

/// A hash with its seed and its view of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameHash {
    pub kind: HashKind,
    pub seed: [u32; 4],
    pub is_unsigned: bool,
}

const MD4_INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// The largest hash means "end of directory" to the kernel's readdir; names get the one below.
const END_OF_DIRECTORY: u32 = 0xffff_fffe;

impl HashKind {
    /// The kind that a root names; 3 to 5 are the unsigned variants, which do not stand on disk.
    pub(crate) fn from_version(version: u8) -> Option<Self> {
        match version {
            0 => Some(Self::Legacy),
            1 => Some(Self::HalfMd4),
            2 => Some(Self::Tea),
            _ => None,
        }
    }
}

impl NameHash {
    /// Hash of a name; bit 0 is always clear.
    pub(crate) fn of(&self, name: &[u8]) -> u32 {
        let initial = if self.seed == [0; 4] { MD4_INITIAL } else { self.seed };
        let hash = match self.kind {
            HashKind::Legacy => self.legacy(name),
            HashKind::HalfMd4 => {
                let mut state = initial;
                for start in (0..name.len()).step_by(32) {
                    half_md4(&mut state, &self.words::<8>(&name[start..]));
                }
                state[1]
            }
            HashKind::Tea => {
                let mut state = initial;
                for start in (0..name.len()).step_by(16) {
                    tea(&mut state, &self.words::<4>(&name[start..]));
                }
                state[0]
            }
        };
        match hash & !1 {
            END_OF_DIRECTORY => END_OF_DIRECTORY - 2,
            hash => hash,
        }
    }

    fn character(&self, byte: u8) -> u32 {
        if self.is_unsigned { u32::from(byte) } else { i32::from(byte as i8) as u32 }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut newest, mut before) = (0x12a3_fe2du32, 0x37ab_e8f9u32);
        for byte in name {
            let mixed = newest ^ self.character(*byte).wrapping_mul(7_152_373);
            let mut hash = before.wrapping_add(mixed);
            if hash & 0x8000_0000 != 0 {
                hash = hash.wrapping_sub(0x7fff_ffff);
            }
            before = newest;
            newest = hash;
        }
        newest << 1
    }

    /// Packs the start of `rest` into words, big end first, padded with its length.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        let len = rest.len() as u32;
        let pad = (len | len << 8).wrapping_mul(0x1_0001);
        let mut words = [pad; N];
        let packed = &rest[..rest.len().min(4 * N)];
        for (word, chunk) in words.iter_mut().zip(packed.chunks(4)) {
            for byte in chunk {
                *word = (*word << 8).wrapping_add(self.character(*byte));
            }
        }
        words
    }
}

fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let choose: Mix = |x, y, z| z ^ (x & (y ^ z));
    let majority: Mix = |x, y, z| (x & y).wrapping_add((x ^ y) & z);
    let parity: Mix = |x, y, z| x ^ y ^ z;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (choose, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (majority, 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (parity, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (step, index) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[index]).wrapping_add(constant);
            let turned = sum.rotate_left(shifts[step % 4]);
            (a, d, c, b) = (d, c, b, turned);
        }
    }
    for (word, value) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(value);
    }
}

fn tea(state: &mut [u32; 4], words: &[u32; 4]) {
    let [a, b, c, d] = *words;
    let (mut left, mut right) = (state[0], state[1]);
    let mut sum = 0u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        let mixed = (right << 4).wrapping_add(a) ^ right.wrapping_add(sum) ^ (right >> 5).wrapping_add(b);
        left = left.wrapping_add(mixed);
        let mixed = (left << 4).wrapping_add(c) ^ left.wrapping_add(sum) ^ (left >> 5).wrapping_add(d);
        right = right.wrapping_add(mixed);
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}
