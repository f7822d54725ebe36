//! Random counts.

use bifrost_analysis::GROUPS;
use fastrand::Rng;

/// A Poisson distribution, drawn from in constant time: M. Walker's alias method, in M. Vose's form.
pub(crate) struct Poisson {
    keep: Vec<f64>,
    alias: Vec<u32>,
}

impl Poisson {
    pub(crate) fn new(mean: f64) -> Self {
        let size = (mean + 12.0 * mean.sqrt() + 20.0) as usize;
        let mut log_factorial = 0.0;
        let mut odds = Vec::with_capacity(size);
        for k in 0..size {
            if k > 0 {
                log_factorial += (k as f64).ln();
            }
            let log = if mean > 0.0 {
                k as f64 * mean.ln() - mean - log_factorial
            } else if k == 0 {
                0.0
            } else {
                -1e9
            };
            odds.push(log.exp() * size as f64);
        }
        let (mut keep, mut alias) = (vec![1.0; size], vec![0u32; size]);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..size).partition(|&k| odds[k] < 1.0);
        while let (Some(low), Some(&high)) = (small.pop(), large.last()) {
            keep[low] = odds[low];
            alias[low] = high as u32;
            odds[high] -= 1.0 - odds[low];
            if odds[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Self { keep, alias }
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        let random = rng.u64(..);
        let scaled = u128::from(random) * self.keep.len() as u128;
        let place = (scaled >> 64) as usize;
        let rest = (scaled as u64) as f64 / 2f64.powi(64);
        if rest < self.keep[place] { place as u32 } else { self.alias[place] }
    }
}

/// Spreads a count over the groups, each as probable as the others.
pub(crate) fn scatter(rng: &mut Rng, count: u64) -> [u32; GROUPS] {
    let mut counts = [0u32; GROUPS];
    if count < 4_096 {
        let (mut bits, mut left) = (0, 0);
        for _ in 0..count {
            if left == 0 {
                (bits, left) = (rng.u64(..), 10);
            }
            counts[(bits & 63) as usize] += 1;
            bits >>= 6;
            left -= 1;
        }
        return counts;
    }
    // One group after the other, its part of what is left: a binomial, close to a normal with so many.
    let mut left = count;
    for (group, place) in counts.iter_mut().enumerate() {
        let share = 1.0 / (GROUPS - group) as f64;
        let mean = left as f64 * share;
        let part = (mean + normal(rng) * (mean * (1.0 - share)).sqrt()).round().clamp(0.0, left as f64) as u64;
        *place = part as u32;
        left -= part;
    }
    counts
}

/// A normal variate, by the polar method of G. Marsaglia.
fn normal(rng: &mut Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * rng.f64() - 1.0, 2.0 * rng.f64() - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * square.ln() / square).sqrt();
        }
    }
}
