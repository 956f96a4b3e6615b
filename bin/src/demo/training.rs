//! Training: mini-batches in a new order every epoch, steps by Adam (Kingma, Ba: ICLR 2015).
//!
//! The same settings give the same weights, to the bit: a second run of the demo finds the versions it made before.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::digits::{CLASSES, Digit, PIXELS};
use super::network::{Network, Score};

/// Adam's memory of gradients and of their squares, as its authors recommend.
const DECAY: (f64, f64) = (0.9, 0.999);

/// How a classifier is trained.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Widths of the layers between pixels and classes; none for softmax regression.
    pub(super) hidden: &'static [usize],
    pub(super) epochs: u32,
    /// Images of a step.
    pub(super) batch: usize,
    pub(super) learning_rate: f64,
    /// Of the first weights and of the order of images.
    pub(super) seed: u64,
}

/// How a classifier does at the end of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    /// Counted from 1.
    pub(super) number: u32,
    pub(super) train: Score,
    pub(super) validation: Score,
}

/// Trains a classifier; `report` hears of every epoch and may end the training.
pub(super) fn train(
    settings: &Settings,
    images: &[Digit],
    validation: &[Digit],
    mut report: impl FnMut(Epoch) -> ControlFlow<()>,
) -> Network {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let widths = [&[PIXELS], settings.hidden, &[CLASSES]].concat();
    let mut network = Network::new(&widths, &mut rng);
    let mut adam = Adam::new(&network, settings.learning_rate);
    let mut order: Vec<&Digit> = images.iter().collect();
    for number in 1..=settings.epochs {
        order.shuffle(&mut rng);
        for batch in order.chunks(settings.batch) {
            let mut gradient = network.zeros();
            for digit in batch {
                network.learn(&digit.input(), digit.class, &mut gradient);
            }
            adam.step(&mut network, &gradient, batch.len());
        }
        let epoch = Epoch {
            number,
            train: evaluate(&network, images),
            validation: evaluate(&network, validation),
        };
        if report(epoch).is_break() {
            break;
        }
    }
    network
}

/// Mean loss and accuracy on images.
pub(super) fn evaluate(network: &Network, images: &[Digit]) -> Score {
    let mut sum = Score::default();
    for digit in images {
        let score = Score::of(&network.probabilities(&digit.input()), digit.class);
        sum.loss += score.loss;
        sum.accuracy += score.accuracy;
    }
    let count = images.len().max(1) as f64;
    Score {
        loss: sum.loss / count,
        accuracy: sum.accuracy / count,
    }
}

/// Per parameter, running means of the gradient and of its square.
struct Adam {
    learning_rate: f64,
    steps: i32,
    moments: Vec<(f64, f64)>,
}

impl Adam {
    fn new(network: &Network, learning_rate: f64) -> Self {
        Self {
            learning_rate,
            steps: 0,
            moments: vec![(0.0, 0.0); network.parameters().count()],
        }
    }

    /// Moves the network against a gradient summed over `images`.
    fn step(&mut self, network: &mut Network, gradient: &Network, images: usize) {
        self.steps += 1;
        // The means start at zero; this takes that back.
        let unbias = (
            1.0 - DECAY.0.powi(self.steps),
            1.0 - DECAY.1.powi(self.steps),
        );
        for ((parameter, sum), (mean, square)) in network
            .parameters_mut()
            .zip(gradient.parameters())
            .zip(&mut self.moments)
        {
            let slope = sum / images as f64;
            *mean = DECAY.0 * *mean + (1.0 - DECAY.0) * slope;
            *square = DECAY.1 * *square + (1.0 - DECAY.1) * slope * slope;
            *parameter -=
                self.learning_rate * (*mean / unbias.0) / ((*square / unbias.1).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::digits::Digits;
    use super::*;

    const QUICK: Settings = Settings {
        hidden: &[16],
        epochs: 8,
        batch: 16,
        learning_rate: 0.01,
        seed: 1,
    };

    fn few() -> (Vec<Digit>, Vec<Digit>) {
        let digits = Digits::shipped();
        (digits.train[..300].to_vec(), digits.test[..100].to_vec())
    }

    #[test]
    fn training_learns_what_it_was_not_shown_and_is_repeatable() {
        let (images, unseen) = few();
        let mut losses = Vec::new();
        let network = train(&QUICK, &images, &unseen, |epoch| {
            losses.push(epoch.train.loss);
            ControlFlow::Continue(())
        });
        assert_eq!(losses.len(), 8);
        assert!(
            losses.is_sorted_by(|before, after| before > after),
            "{losses:?}"
        );
        let score = evaluate(&network, &unseen);
        assert!(score.accuracy > 0.8, "{score:?}");
        let again = train(&QUICK, &images, &unseen, |_| ControlFlow::Continue(()));
        assert_eq!(again, network);
        let other = Settings { seed: 2, ..QUICK };
        assert_ne!(
            train(&other, &images, &unseen, |_| ControlFlow::Continue(())),
            network
        );
    }

    #[test]
    fn a_report_can_end_the_training() {
        let (images, unseen) = few();
        let mut epochs = Vec::new();
        train(&QUICK, &images, &unseen, |epoch| {
            epochs.push(epoch.number);
            ControlFlow::Break(())
        });
        assert_eq!(epochs, [1]);
    }

    #[test]
    fn adam_finds_the_bottom_of_a_bowl() {
        // The first step of Adam is as long as the learning rate, whatever the slope.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut network = Network::new(&[2, 2], &mut rng);
        let mut adam = Adam::new(&network, 0.05);
        let before = network.clone();
        let slope = |network: &Network| {
            let mut slope = network.clone();
            slope
                .parameters_mut()
                .for_each(|value| *value = 2.0 * (*value - 1.0));
            slope
        };
        adam.step(&mut network, &slope(&before), 1);
        for (before, after) in before.parameters().zip(network.parameters()) {
            assert!(((before - after).abs() - 0.05).abs() < 1e-6);
        }
        for _ in 0..500 {
            let gradient = slope(&network);
            adam.step(&mut network, &gradient, 1);
        }
        assert!(network.parameters().all(|value| (value - 1.0).abs() < 1e-2));
    }
}
