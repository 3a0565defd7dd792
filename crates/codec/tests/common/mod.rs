//! Inputs of many shapes, and a reader that slides.
#![allow(dead_code, reason = "each test file uses a part")]

/// A small generator of numbers: the same ones in each run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) as usize) % limit.max(1)
    }

    /// Below 2 to the power of `bits`; small numbers as often as large ones.
    pub fn small(&mut self, bits: usize) -> usize {
        let bits = 1 + self.below(bits);
        self.below(1 << bits)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 40) as u8).collect()
    }
}

/// Words of a small language, in an order that repeats in part.
pub fn text(numbers: &mut Numbers, len: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..300)
        .map(|_| (0..1 + numbers.below(9)).map(|_| b'a' + numbers.below(26) as u8).chain([b' ']).collect())
        .collect();
    let mut out = Vec::new();
    while out.len() < len {
        let rank = numbers.below(300) * numbers.below(300) / 300;
        out.extend(&words[rank]);
    }
    out.truncate(len);
    out
}

/// Noise that repeats after `period` bytes.
pub fn periodic(numbers: &mut Numbers, period: usize, len: usize) -> Vec<u8> {
    let one = numbers.bytes(period);
    one.iter().copied().cycle().take(len).collect()
}

/// A mixture of everything: runs, noise, text, copies from any distance, few symbols, many symbols.
pub fn mixture(numbers: &mut Numbers, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let part = 1 + numbers.small(13);
        match numbers.below(7) {
            0 => out.resize(out.len() + part, numbers.below(256) as u8),
            1 => out.extend(numbers.bytes(part)),
            2 => out.extend(text(numbers, part)),
            3 if !out.is_empty() => {
                let from = out.len() - 1 - numbers.below(out.len().min(40_000));
                for at in from..from + part {
                    out.push(out[at]);
                }
            }
            4 => {
                let few = 1 + numbers.below(6);
                out.extend((0..part).map(|_| numbers.below(few) as u8));
            }
            5 => {
                // Counts like Fibonacci's numbers make deep trees.
                out.extend((0..part).map(|_| (numbers.next() | 1 << 40).trailing_zeros() as u8));
            }
            _ => out.extend((0..part as u32).flat_map(u32::to_le_bytes)),
        }
    }
    out.truncate(len);
    out
}

/// Bits of a stream, lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Result<usize, String> {
        let mut value = 0;
        for bit in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or("the stream ends early")?;
            value |= usize::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Ok(value)
    }
}

/// A prefix code by lengths: walked bit by bit.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Result<Self, String> {
        let mut counts = [0; 16];
        for &length in lengths.iter().filter(|length| **length > 0) {
            counts[length] += 1;
        }
        let kraft: usize = (1..16).map(|length| counts[length] << (15 - length)).sum();
        if kraft > 1 << 15 {
            return Err("a code with too many words".into());
        }
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Ok(Self { counts, symbols })
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize, String> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for length in 1..16 {
            code |= bits.take(1)?;
            if code < first + self.counts[length] {
                return Ok(self.symbols[index + code - first]);
            }
            index += self.counts[length];
            first = (first + self.counts[length]) << 1;
            code <<= 1;
        }
        Err("a word that is in no code".into())
    }
}

/// Inflates with a ring of `window` bytes and nothing more: what reaches farther back is an error.
pub fn sliding_inflate(stream: &[u8], window: usize) -> Result<Vec<u8>, String> {
    let mut bits = Bits { bytes: stream, at: 0 };
    let mut ring = vec![0u8; window];
    let mut out = Vec::new();
    let push = |byte: u8, ring: &mut Vec<u8>, out: &mut Vec<u8>| {
        ring[out.len() % window] = byte;
        out.push(byte);
    };
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => {
                bits.at = bits.at.next_multiple_of(8);
                let (len, check) = (bits.take(16)?, bits.take(16)?);
                if len ^ check != 0xffff {
                    return Err("a stored block whose lengths differ".into());
                }
                for _ in 0..len {
                    push(bits.take(8)? as u8, &mut ring, &mut out);
                }
            }
            kind @ (1 | 2) => {
                let (litlen, dist) = if kind == 1 {
                    let lengths: Vec<usize> = (0..288)
                        .map(|symbol| match symbol {
                            0..144 => 8,
                            144..256 => 9,
                            256..280 => 7,
                            _ => 8,
                        })
                        .collect();
                    (Code::new(&lengths)?, Code::new(&[5; 30])?)
                } else {
                    dynamic_codes(&mut bits)?
                };
                loop {
                    let symbol = litlen.read(&mut bits)?;
                    if symbol < 256 {
                        push(symbol as u8, &mut ring, &mut out);
                        continue;
                    }
                    if symbol == 256 {
                        break;
                    }
                    let length = match symbol - 257 {
                        code @ 0..8 => code + 3,
                        28 => 258,
                        code @ 8..28 => {
                            let extra = code / 4 - 1;
                            ((4 + code % 4) << extra) + 3 + bits.take(extra)?
                        }
                        _ => return Err("a length code that is not in use".into()),
                    };
                    let distance = match dist.read(&mut bits)? {
                        code @ 0..4 => code + 1,
                        code @ 4..30 => {
                            let extra = code / 2 - 1;
                            ((2 + code % 2) << extra) + 1 + bits.take(extra)?
                        }
                        _ => return Err("a distance code that is not in use".into()),
                    };
                    if distance > window || distance > out.len() {
                        return Err(format!("a distance of {distance} at {}", out.len()));
                    }
                    for _ in 0..length {
                        let byte = ring[(out.len() - distance) % window];
                        push(byte, &mut ring, &mut out);
                    }
                }
            }
            _ => return Err("a block of the kind that is not in use".into()),
        }
        if last {
            return Ok(out);
        }
    }
}

fn dynamic_codes(bits: &mut Bits<'_>) -> Result<(Code, Code), String> {
    let (litlen, dist, pre) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    if litlen > 286 || dist > 30 {
        return Err("more symbols than there are".into());
    }
    let mut lengths = [0; 19];
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15].into_iter().take(pre) {
        lengths[symbol] = bits.take(3)?;
    }
    let code = Code::new(&lengths)?;
    let mut all: Vec<usize> = Vec::new();
    while all.len() < litlen + dist {
        let (value, times) = match code.read(bits)? {
            16 => (*all.last().ok_or("a repeat of nothing")?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        all.extend(std::iter::repeat_n(value, times));
    }
    if all.len() > litlen + dist || all[256] == 0 {
        return Err("code lengths past the end, or no end of block".into());
    }
    Ok((Code::new(&all[..litlen])?, Code::new(&all[litlen..])?))
}
