//! Changes inputs at random, from a seed: the same seed makes the same inputs everywhere, for good.

/// Numbers from a seed (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another one, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A range of at most `max` bytes of an input.
    fn range(&mut self, len: usize, max: usize) -> std::ops::Range<usize> {
        let from = self.below(len + 1);
        let count = self.below((len - from).min(max) + 1);
        from..from + count
    }
}

/// What an input looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Numbers and texts at their places.
    Bytes,
    /// JSON.
    Text,
}

/// Inputs are not let grow beyond this.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// How much is moved at a time.
const PIECE_BYTES_MAX: usize = 64;

/// What may stand for any token of JSON.
const TOKENS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1e308",
    "1e999",
    "-1e-999",
    "0.1",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    "01",
    "1.",
    ".5",
    "+1",
    "NaN",
    "\"NaN\"",
    "\"Infinity\"",
    "\"-Infinity\"",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud83d\"",
    "\"\\ud83d\\ude00\"",
    "\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
    "\"a\\u0041\"",
    "\"\\u00e9\"",
    "\"é\"",
    "\"\u{7f}\"",
    "\"2026-11-22T17:00:00Z\"",
    "\"2026-11-22T17:00:00.123456789+23:59\"",
    "\"1677-01-01T00:00:00Z\"",
    "1795366800000000",
    "{}",
    "[]",
    "{\"a\":1}",
    "[[]]",
    "[{}]",
    "{\"a\":1,\"a\":2}",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\n",
    "\r",
    "\t",
    " ",
    "\u{feff}",
    "\"type\"",
    "\"ModelCreated\"",
    "\"model_created\"",
    "\"model.created\"",
    "\"PredictionLogged\"",
    "\"MetricLogged\"",
    "\"EventRejected\"",
    "\"EventLogged\"",
    "\"RunStarted\"",
    "\"FeedbackLogged\"",
    "\"TagsSet\"",
    "\"ModelVersionAliased\"",
    "\"model\"",
    "\"version\"",
    "\"id\"",
    "\"time\"",
    "\"extra\"",
    "\"source\"",
    "\"input\"",
    "\"input_data\"",
    "\"output\"",
    "\"run\"",
    "\"value\"",
    "\"name\"",
    "\"step\"",
    "\"data\"",
    "\"data_base64\"",
    "\"e30=\"",
    "\"specversion\"",
    "\"1.0\"",
    "\"datacontenttype\"",
    "\"application/json\"",
    "\"subject\"",
    "\"log_offset\"",
    "\"append_time\"",
    "\"model/m\"",
    "\"entity\"",
    "\"more\"",
    "\"__proto__\"",
];

/// Changes an input in a few places; `other` is another input to take pieces of.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], shape: Shape, random: &mut Random) {
    for _ in 0..=random.below(4) {
        match shape {
            Shape::Text if random.below(3) > 0 => text(input, random),
            _ => bytes(input, other, random),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// One change that any input can take.
fn bytes(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = input.len();
    match random.below(9) {
        0 if len > 0 => input[random.below(len)] ^= 1 << random.below(8),
        1 if len > 0 => input[random.below(len)] = random.number() as u8,
        2 => drop(input.drain(random.range(len, PIECE_BYTES_MAX))),
        3 => {
            let piece = input[random.range(len, PIECE_BYTES_MAX)].to_vec();
            insert(input, &piece, random);
        }
        4 => {
            let piece = &other[random.range(other.len(), PIECE_BYTES_MAX)];
            insert(input, piece, random);
        }
        5 => {
            let piece = &other[random.range(other.len(), PIECE_BYTES_MAX)];
            overwrite(input, piece, random);
        }
        6 => {
            let piece = input[random.range(len, PIECE_BYTES_MAX)].to_vec();
            overwrite(input, &piece, random);
        }
        7 if random.below(8) == 0 => input.truncate(random.below(len + 1)),
        _ => number(input, random),
    }
}

fn insert(input: &mut Vec<u8>, piece: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    input.splice(at..at, piece.iter().copied());
}

fn overwrite(input: &mut [u8], piece: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let count = piece.len().min(input.len() - at);
    input[at..at + count].copy_from_slice(&piece[..count]);
}

/// Puts a number that decoders stumble over where one may stand: lengths, counts, positions.
fn number(input: &mut [u8], random: &mut Random) {
    let width = *random.pick(&[1_usize, 2, 4, 8]);
    if input.len() < width {
        return;
    }
    let mut at = random.below(input.len() - width + 1);
    if random.below(4) > 0 {
        at -= at % width;
    }
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(&input[at..at + width]);
    let present = u64::from_le_bytes(bytes);
    let number = match random.below(8) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::MAX >> (64 - 8 * width + 1),
        4 => input.len() as u64,
        5 => present
            .wrapping_add(random.below(17) as u64)
            .wrapping_sub(8),
        6 => 1 << random.below(8 * width),
        _ => present << random.below(8),
    };
    input[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

/// One change to JSON: a token is replaced, doubled, left out, or put before another one.
fn text(input: &mut Vec<u8>, random: &mut Random) {
    let tokens = tokens(input);
    if tokens.is_empty() {
        input.extend_from_slice(random.pick(TOKENS).as_bytes());
        return;
    }
    let here = random.pick(&tokens).clone();
    let there = random.pick(&tokens).clone();
    match random.below(5) {
        0 => drop(input.splice(here, random.pick(TOKENS).bytes())),
        1 => drop(input.splice(here.start..here.start, random.pick(TOKENS).bytes())),
        2 => {
            let other = input[there].to_vec();
            drop(input.splice(here, other));
        }
        3 => drop(input.drain(here)),
        _ => {
            // From one token to another: a member, an element, half of an object.
            let (from, to) = (here.start.min(there.start), here.end.max(there.end));
            let piece = input[from..to].to_vec();
            if input.len() + piece.len() <= INPUT_BYTES_MAX {
                let at = random.pick(&tokens).start;
                drop(input.splice(at..at, piece));
            }
        }
    }
}

/// Where the tokens of something like JSON lie.
fn tokens(input: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let start = at;
        at += 1;
        match input[start] {
            b'"' => {
                while at < input.len() && input[at] != b'"' {
                    at += if input[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(input.len());
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {}
            byte if byte.is_ascii_whitespace() => continue,
            _ => {
                while at < input.len()
                    && (input[at].is_ascii_alphanumeric() || b"+-.".contains(&input[at]))
                {
                    at += 1;
                }
            }
        }
        tokens.push(start..at);
    }
    tokens
}
