//! The images: 1,797 handwritten digits of 8×8 pixels, shipped with the program (`bin/data/NOTICE.md` says whose).
//!
//! They are shuffled with a fixed seed, and then every class is dealt out in tens: five to the test half, one to
//! validation, four to training. So every split has its share of each digit, and every run of the demo has the same
//! splits.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

/// Pixels of an image, row by row.
pub(super) const PIXELS: usize = 64;
/// The digits.
pub(super) const CLASSES: usize = 10;
/// A pixel lies between 0 and this: how many of 4×4 finer pixels held ink.
const INK_MAX: u8 = 16;
/// Of the shuffle that comes before dealing.
pub(super) const SPLIT_SEED: u64 = 1998;

/// The gzipped table: 64 pixels and the digit, a line an image.
const SHIPPED: &[u8] = include_bytes!("../../data/digits.csv.gz");

/// An image and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digit {
    pub(super) pixels: [u8; PIXELS],
    pub(super) class: u8,
}

impl Digit {
    /// The pixels as a classifier takes them, from 0 to 1.
    pub(super) fn input(&self) -> [f64; PIXELS] {
        self.pixels.map(|ink| f64::from(ink) / f64::from(INK_MAX))
    }

    fn parse(line: &str) -> Result<Self> {
        let mut numbers = [0_u8; PIXELS + 1];
        let mut fields = line.split(',');
        for number in &mut numbers {
            let field = fields.next().context("fewer than 65 numbers")?;
            *number = field
                .parse()
                .with_context(|| format!("{field:?} is no small number"))?;
        }
        ensure!(fields.next().is_none(), "more than 65 numbers");
        let [pixels @ .., class] = numbers;
        ensure!(pixels.iter().all(|ink| *ink <= INK_MAX), "a pixel above 16");
        ensure!(usize::from(class) < CLASSES, "a class above 9");
        Ok(Self { pixels, class })
    }
}

/// The images by what they are used for; no image is in two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) train: Vec<Digit>,
    pub(super) validation: Vec<Digit>,
    pub(super) test: Vec<Digit>,
}

impl Digits {
    /// The set shipped with the program.
    pub(super) fn shipped() -> Self {
        Self::read(SHIPPED).expect("the shipped set is well formed; a test reads it")
    }

    /// Which bytes were shipped.
    pub(super) fn digest() -> String {
        sha256(SHIPPED)
    }

    /// Images in all splits.
    pub(super) fn len(&self) -> usize {
        self.train.len() + self.validation.len() + self.test.len()
    }

    fn read(gzipped: &[u8]) -> Result<Self> {
        let mut text = String::new();
        GzDecoder::new(gzipped)
            .read_to_string(&mut text)
            .context("the images cannot be unpacked")?;
        let images = text
            .lines()
            .enumerate()
            .map(|(at, line)| Digit::parse(line).with_context(|| format!("image {}", at + 1)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self::deal(images))
    }

    fn deal(mut images: Vec<Digit>) -> Self {
        images.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(SPLIT_SEED));
        let (mut train, mut validation, mut test) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = [0_u32; CLASSES];
        for image in images {
            let nth = &mut seen[usize::from(image.class)];
            match *nth % 10 {
                0 | 2 | 4 | 6 | 8 => test.push(image),
                9 => validation.push(image),
                _ => train.push(image),
            }
            *nth += 1;
        }
        Self {
            train,
            validation,
            test,
        }
    }
}

/// A digest as the event model spells it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes whatever is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        format!("{:#}", Digits::read(bytes).unwrap_err())
    }

    #[test]
    fn the_shipped_set_is_whole_and_every_split_has_its_share_of_each_digit() {
        let digits = Digits::shipped();
        assert_eq!(digits.len(), 1797);
        for class in 0..10 {
            let count = |split: &[Digit]| split.iter().filter(|digit| digit.class == class).count();
            let (train, validation, test) = (
                count(&digits.train),
                count(&digits.validation),
                count(&digits.test),
            );
            assert!(test.abs_diff(train + validation) <= 1);
            assert!((17..=18).contains(&validation));
        }
        assert_eq!(digits, Digits::shipped());
        assert_eq!(
            Digits::digest(),
            "sha256:09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
        );
    }

    #[test]
    fn dealing_loses_and_repeats_no_image() {
        let images: Vec<_> = (0..200_u8)
            .map(|at| {
                let mut pixels = [0; PIXELS];
                pixels[0] = at % 16;
                pixels[1] = at / 16;
                let class = at % 10;
                Digit { pixels, class }
            })
            .collect();
        let Digits {
            train,
            validation,
            test,
        } = Digits::deal(images.clone());
        assert_eq!((train.len(), validation.len(), test.len()), (80, 20, 100));
        let mut dealt = [train, validation, test].concat();
        assert_ne!(dealt, images);
        dealt.sort_by_key(|digit| (digit.pixels[1], digit.pixels[0]));
        assert_eq!(dealt, images);
    }

    #[test]
    fn images_that_are_none_are_refused_with_their_place() {
        let good = format!("{}7", "16,".repeat(64));
        assert_eq!(Digits::read(&gzip(&good)).unwrap().len(), 1);
        for (line, complaint) in [
            ("1,2,3".to_owned(), "image 2: fewer than 65 numbers"),
            (format!("{good},1"), "image 2: more than 65 numbers"),
            (good.replacen("16", "17", 1), "image 2: a pixel above 16"),
            (good.replacen("16", "-1", 1), "image 2: \"-1\" is no small"),
            (good.replacen(",7", ",10", 1), "image 2: a class above 9"),
        ] {
            let text = refusal(&gzip(&format!("{good}\n{line}\n")));
            assert!(text.starts_with(complaint), "{text}");
        }
        assert!(refusal(b"no gzip").starts_with("the images cannot be unpacked"));
    }
}
