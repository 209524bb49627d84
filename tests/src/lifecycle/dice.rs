//! Choices that a seed decides.

use fastrand::Rng;

/// A source of choices: the same seed makes the same ones.
#[derive(Debug)]
pub(super) struct Dice(Rng);

impl Dice {
    /// Those of one part of the run: parts of one seed differ.
    #[must_use]
    pub(super) fn new(seed: u64, part: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self(Rng::with_seed(rng.u64(..)))
    }

    /// Those of one action, so that however many it makes, the next action's are the same.
    pub(super) fn fork(&mut self) -> Self {
        Self(Rng::with_seed(self.0.u64(..)))
    }

    /// Whether something that happens `percent` times in a hundred happens.
    pub(super) fn chance(&mut self, percent: u8) -> bool {
        self.0.u8(..100) < percent
    }

    /// A number below `limit`, or 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit.max(1))
    }

    /// A number from `least` to `most`.
    pub(super) fn between(&mut self, least: u32, most: u32) -> u32 {
        self.0.u32(least..=most)
    }

    /// One of `choices`, of which there is at least one.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of `choices`, each as often as its weight says; at least one weight is not 0.
    pub(super) fn weighted<T: Copy>(&mut self, choices: &[(T, u32)]) -> T {
        let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut at = self.0.u32(..total);
        for (choice, weight) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        choices[0].0
    }
}
