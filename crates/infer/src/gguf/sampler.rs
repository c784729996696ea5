//! Choose the next token: greedily, or from the distribution with a seed.

use crate::{Error, Sampling};

/// Attempts at "most likely, then next" before candidates are sorted.
const QUICK_ATTEMPTS: usize = 24;

/// Chooses tokens, reproducibly.
pub(crate) struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    /// Checks the parameters.
    pub(crate) fn new(sampling: Sampling) -> Result<Self, Error> {
        let state = match sampling {
            Sampling::Greedy => 0,
            Sampling::Seeded { temperature, top_p, seed } => {
                if !(temperature > 0.0 && temperature <= 2.0) {
                    return Err(Error::invalid("temperature", "must lie between 0 and 2"));
                }
                if !(top_p > 0.0 && top_p <= 1.0) {
                    return Err(Error::invalid("top_p", "must lie above 0 and not above 1"));
                }
                seed
            }
        };
        Ok(Self { sampling, state })
    }

    /// The next token among those `allowed`, or `None` when there is none. `logits` is scratch afterwards.
    pub(crate) fn next(
        &mut self,
        logits: &mut [f32],
        allowed: &mut dyn FnMut(u32) -> bool,
    ) -> Option<u32> {
        match self.sampling {
            Sampling::Greedy => greedy(logits, allowed),
            Sampling::Seeded { temperature, top_p, .. } => {
                let draw = self.uniform();
                seeded(logits, allowed, temperature, top_p, draw)
            }
        }
    }

    /// A number in [0, 1) from SplitMix64, whose whole state is one word: the seed is the stream.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let high = u32::try_from(z >> 32).unwrap_or(u32::MAX);
        f64::from(high) / 4_294_967_296.0
    }
}

fn greedy(logits: &mut [f32], allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
    for _ in 0..QUICK_ATTEMPTS {
        let (index, best) = most_likely(logits)?;
        if *best == f32::NEG_INFINITY {
            return None;
        }
        *best = f32::NEG_INFINITY;
        if let Ok(token) = u32::try_from(index)
            && allowed(token)
        {
            return Some(token);
        }
    }
    ranked(logits).into_iter().map(|(token, _)| token).find(|&token| allowed(token))
}

/// The first of the largest logits; a NaN counts as impossible.
fn most_likely(logits: &mut [f32]) -> Option<(usize, &mut f32)> {
    let mut best: Option<(usize, &mut f32)> = None;
    for (index, logit) in logits.iter_mut().enumerate() {
        if logit.is_nan() {
            *logit = f32::NEG_INFINITY;
        }
        if best.as_ref().is_none_or(|(_, highest)| *logit > **highest) {
            best = Some((index, logit));
        }
    }
    best
}

/// Possible tokens from most to least likely; equals in token order.
fn ranked(logits: &[f32]) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0u32..)
        .zip(logits.iter().copied())
        .filter(|(_, logit)| !logit.is_nan() && *logit != f32::NEG_INFINITY)
        .collect();
    ranked.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    ranked
}

fn seeded(
    logits: &[f32],
    allowed: &mut dyn FnMut(u32) -> bool,
    temperature: f32,
    top_p: f32,
    draw: f64,
) -> Option<u32> {
    let mut candidates = ranked(logits);
    candidates.retain(|&(token, _)| allowed(token));
    let highest = f64::from(candidates.first()?.1);
    let weight = |logit: f32| ((f64::from(logit) - highest) / f64::from(temperature)).exp();
    let total: f64 = candidates.iter().map(|&(_, logit)| weight(logit)).sum();

    let mut nucleus = 0.0;
    let mut size = 0;
    for &(_, logit) in &candidates {
        nucleus += weight(logit);
        size += 1;
        if nucleus >= f64::from(top_p) * total {
            break;
        }
    }
    candidates.truncate(size);

    let mut left = draw * nucleus;
    for &(token, logit) in &candidates {
        left -= weight(logit);
        if left < 0.0 {
            return Some(token);
        }
    }
    candidates.last().map(|&(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 3.0, 3.0, f32::NAN, 1.0];

    fn draw_many(sampling: Sampling, n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling).unwrap();
        (0..n).map(|_| sampler.next(&mut LOGITS.to_vec(), &mut |_| true).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_that_is_allowed() {
        let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &mut |_| true), Some(1));
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &mut |t| t != 1), Some(2));
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &mut |t| t == 0), Some(0));
        assert_eq!(sampler.next(&mut LOGITS.to_vec(), &mut |_| false), None);
        assert_eq!(sampler.next(&mut [], &mut |_| true), None);
    }

    #[test]
    fn greedy_finds_an_allowed_token_far_down_the_ranking() {
        let mut logits: Vec<f32> = (0u8..200).map(|n| 300.0 - f32::from(n)).collect();
        let mut sampler = Sampler::new(Sampling::Greedy).unwrap();
        assert_eq!(sampler.next(&mut logits, &mut |t| t == 190), Some(190));
    }

    #[test]
    fn the_seed_decides_everything() {
        let seeded = |seed| Sampling::Seeded { temperature: 1.0, top_p: 1.0, seed };
        assert_eq!(draw_many(seeded(7), 64), draw_many(seeded(7), 64));
        assert_ne!(draw_many(seeded(7), 64), draw_many(seeded(8), 64));
    }

    #[test]
    fn frequencies_follow_the_distribution_and_top_p_cuts_the_tail() {
        let count = |tokens: &[u32], t| tokens.iter().filter(|&&x| x == t).count();
        let all = draw_many(Sampling::Seeded { temperature: 1.0, top_p: 1.0, seed: 1 }, 4000);
        // softmax of (0, 3, 3, 1): 0.023, 0.456, 0.456, 0.062
        for (token, expected) in [(0u32, 92i64), (1, 1830), (2, 1830), (3, 0), (4, 248)] {
            let seen = i64::try_from(count(&all, token)).unwrap();
            assert!((seen - expected).abs() < 110, "token {token}: {seen}, expected {expected}");
        }
        let cut = draw_many(Sampling::Seeded { temperature: 1.0, top_p: 0.9, seed: 1 }, 1000);
        assert!(cut.iter().all(|t| [1, 2].contains(t)));
    }

    #[test]
    fn senseless_parameters_are_refused() {
        for (temperature, top_p) in [
            (0.0, 1.0),
            (-1.0, 1.0),
            (2.1, 1.0),
            (f32::NAN, 1.0),
            (1.0, 0.0),
            (1.0, 1.1),
            (1.0, f32::NAN),
        ] {
            let sampling = Sampling::Seeded { temperature, top_p, seed: 0 };
            assert!(Sampler::new(sampling).is_err_and(|e| e.is_callers_fault()), "{sampling:?}");
        }
    }
}
