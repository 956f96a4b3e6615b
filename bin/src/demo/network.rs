//! A feed-forward classifier, small enough to read: layers of weighted sums, ReLU between them, softmax at the end.
//!
//! With a single layer this is softmax regression. The gradient is that of the cross-entropy, by back-propagation
//! (Rumelhart, Hinton, Williams: Nature 323, 1986); a test compares it with differences of the loss.

use rand::{Rng, RngExt};
use serde::Serialize;

/// Weighted sums of the inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Layer {
    /// For every output, one row of a weight per input.
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

/// A classifier; also the shape of its gradient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Network {
    layers: Vec<Layer>,
}

/// How well a classifier does on a set of images, or on one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Score {
    /// Mean cross-entropy, in nats.
    pub(super) loss: f64,
    /// Share of images classified rightly.
    pub(super) accuracy: f64,
}

impl Network {
    /// A network of layers with so many inputs and outputs, its weights drawn so that signals keep their size
    /// (He and others: ICCV 2015).
    pub(super) fn new(widths: &[usize], rng: &mut impl Rng) -> Self {
        let layers = widths
            .windows(2)
            .map(|pair| {
                let (inputs, outputs) = (pair[0], pair[1]);
                let bound = (6.0 / inputs as f64).sqrt();
                let mut row = || {
                    (0..inputs)
                        .map(|_| rng.random_range(-bound..bound))
                        .collect()
                };
                Layer {
                    weights: (0..outputs).map(|_| row()).collect(),
                    bias: vec![0.0; outputs],
                }
            })
            .collect();
        Self { layers }
    }

    /// The same shape, all zeros.
    pub(super) fn zeros(&self) -> Self {
        let mut zeros = self.clone();
        zeros.parameters_mut().for_each(|value| *value = 0.0);
        zeros
    }

    /// All weights and biases, in a fixed order.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &f64> {
        self.layers
            .iter()
            .flat_map(|layer| layer.weights.iter().flatten().chain(&layer.bias))
    }

    /// [`parameters`](Self::parameters), to be changed.
    pub(super) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        self.layers
            .iter_mut()
            .flat_map(|layer| layer.weights.iter_mut().flatten().chain(&mut layer.bias))
    }

    /// The probability of every class.
    pub(super) fn probabilities(&self, input: &[f64]) -> Vec<f64> {
        let mut values = input.to_vec();
        for (at, layer) in self.layers.iter().enumerate() {
            values = self.activate(at, layer.sums(&values));
        }
        values
    }

    /// Adds the gradient of the loss on one image to `gradient`, and says how the network did on it.
    pub(super) fn learn(&self, input: &[f64], class: u8, gradient: &mut Self) -> Score {
        let mut activations = vec![input.to_vec()];
        for (at, layer) in self.layers.iter().enumerate() {
            let sums = layer.sums(&activations[at]);
            activations.push(self.activate(at, sums));
        }
        let mut error = activations.pop().expect("every layer left its activations");
        let score = Score::of(&error, class);
        error[usize::from(class)] -= 1.0;
        for (at, layer) in self.layers.iter().enumerate().rev() {
            gradient.layers[at].add_outer(&error, &activations[at]);
            if at > 0 {
                error = layer.back(&error, &activations[at]);
            }
        }
        score
    }

    fn activate(&self, layer: usize, sums: Vec<f64>) -> Vec<f64> {
        if layer + 1 == self.layers.len() {
            softmax(sums)
        } else {
            sums.into_iter().map(|sum| sum.max(0.0)).collect()
        }
    }
}

impl Layer {
    fn sums(&self, input: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| -> f64 { row.iter().zip(input).map(|(a, b)| a * b).sum() };
        self.weights
            .iter()
            .zip(&self.bias)
            .map(|(row, bias)| dot(row) + bias)
            .collect()
    }

    fn add_outer(&mut self, error: &[f64], input: &[f64]) {
        for ((row, bias), error) in self.weights.iter_mut().zip(&mut self.bias).zip(error) {
            *bias += error;
            for (weight, value) in row.iter_mut().zip(input) {
                *weight += error * value;
            }
        }
    }

    /// The error of the layer before, whose ReLU gave `activations`.
    fn back(&self, error: &[f64], activations: &[f64]) -> Vec<f64> {
        let mut before = vec![0.0; activations.len()];
        for (row, error) in self.weights.iter().zip(error) {
            for (sum, weight) in before.iter_mut().zip(row) {
                *sum += weight * error;
            }
        }
        for (sum, activation) in before.iter_mut().zip(activations) {
            if *activation <= 0.0 {
                *sum = 0.0;
            }
        }
        before
    }
}

impl Score {
    /// The score on one image.
    pub(super) fn of(probabilities: &[f64], class: u8) -> Self {
        let right = probabilities[usize::from(class)];
        Self {
            // A probability that came out as zero must not make the whole epoch infinite.
            loss: -right.max(f64::MIN_POSITIVE).ln(),
            accuracy: f64::from(u8::from(argmax(probabilities) == usize::from(class))),
        }
    }
}

/// The class with the highest probability.
pub(super) fn argmax(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[best] {
            best = class;
        }
    }
    best
}

fn softmax(mut sums: Vec<f64>) -> Vec<f64> {
    // Without the highest sum as reference, exp would overflow.
    let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    sums.iter_mut()
        .for_each(|sum| *sum = (*sum - highest).exp());
    let total: f64 = sums.iter().sum();
    sums.iter_mut().for_each(|sum| *sum /= total);
    sums
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;

    /// Compares every entry of the gradient with the slope of the loss.
    fn check_gradient(widths: &[usize]) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let network = Network::new(widths, &mut rng);
        let input: Vec<f64> = (0..widths[0]).map(|_| rng.random_range(0.0..1.0)).collect();
        let mut gradient = network.zeros();
        let score = network.learn(&input, 2, &mut gradient);
        assert_eq!(score, Score::of(&network.probabilities(&input), 2));

        let step = 1e-6;
        let loss_with = |at: usize, change: f64| {
            let mut moved = network.clone();
            *moved.parameters_mut().nth(at).unwrap() += change;
            Score::of(&moved.probabilities(&input), 2).loss
        };
        for (at, entry) in gradient.parameters().enumerate() {
            let slope = (loss_with(at, step) - loss_with(at, -step)) / (2.0 * step);
            assert!(
                (entry - slope).abs() < 1e-7,
                "parameter {at} of {widths:?}: gradient {entry}, slope {slope}"
            );
        }
        assert!(gradient.parameters().any(|entry| entry.abs() > 1e-3));
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        check_gradient(&[5, 3]);
        check_gradient(&[5, 7, 4]);
        check_gradient(&[4, 6, 5, 3]);
    }

    #[test]
    fn gradients_of_several_images_add_up() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let network = Network::new(&[2, 3], &mut rng);
        let (mut first, mut second, mut both) = (network.zeros(), network.zeros(), network.zeros());
        network.learn(&[0.5, 0.25], 0, &mut first);
        network.learn(&[1.0, 0.0], 2, &mut second);
        network.learn(&[0.5, 0.25], 0, &mut both);
        network.learn(&[1.0, 0.0], 2, &mut both);
        for ((first, second), both) in first
            .parameters()
            .zip(second.parameters())
            .zip(both.parameters())
        {
            assert!((first + second - both).abs() < 1e-12);
        }
    }

    #[test]
    fn probabilities_add_up_even_where_sums_are_huge() {
        let probabilities = softmax(vec![1e4, -1e4, 1e4]);
        assert_eq!(probabilities, [0.5, 0.0, 0.5]);
        assert_eq!(argmax(&probabilities), 0);
        let score = Score::of(&probabilities, 1);
        assert!(score.loss.is_finite() && score.loss > 700.0);
        assert_eq!(score.accuracy, 0.0);
    }
}
