//! Counter-based random numbers: what is drawn depends only on the key, never on threads, order or resume.
//!
//! Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

/// Where a stream of random numbers lives: a seed and the path of words that led here,
/// e.g. `Key::new(seed).named("augment").with(epoch).with(sample)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    pub fn new(seed: u64) -> Self {
        Self([seed as u32, (seed >> 32) as u32])
    }

    /// The key below this one at `word`.
    pub fn with(self, word: u64) -> Self {
        let block = philox([word as u32, (word >> 32) as u32, 0x6b65_7920, 0], self.0);
        Self([block[0], block[1]])
    }

    /// The key below this one at `name`.
    pub fn named(self, name: &str) -> Self {
        name.bytes().fold(self.with(name.len() as u64), |key, byte| key.with(byte.into()))
    }

    /// The two words it is made of.
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    pub fn rng(self) -> Rng {
        Rng { key: self.0, counter: 0, block: [0; 4], used: 4 }
    }
}

/// A stream of random numbers under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    key: [u32; 2],
    counter: u64,
    block: [u32; 4],
    used: usize,
}

impl Rng {
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox([self.counter as u32, (self.counter >> 32) as u32, 0, 0], self.key);
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// The key's two words, and how many integers have been drawn under it.
    pub fn place(&self) -> ([u32; 2], u64) {
        (self.key, (4 * self.counter + self.used as u64).saturating_sub(4))
    }

    fn skip(&mut self, integers: u64) {
        let place = self.place().1 + integers;
        (self.counter, self.used) = (place / 4, 4);
        for _ in 0..place % 4 {
            self.next_u32();
        }
    }

    /// Goes on as after this many calls of [`Rng::uniform`].
    pub fn skip_uniforms(&mut self, count: usize) {
        self.skip(2 * count as u64);
    }

    /// Goes on as after this many calls of [`Rng::normal`] or [`Rng::normals`].
    pub fn skip_normals(&mut self, count: usize) {
        self.skip(4 * count as u64);
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform among `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        self.normals()[0]
    }

    /// Two independent standard normals (Box & Muller 1958).
    pub fn normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [radius * cos, radius * sin]
    }

    /// Gamma(shape, 1), shape > 0 (Marsaglia & Tsang 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.uniform()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta(a, b), a and b > 0.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        if x + y > 0.0 { x / (x + y) } else { f64::from(self.chance(a / (a + b))) }
    }

    /// The numbers `0..n` in random order (Fisher & Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xd251_1f53;
        let b = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn moments_of_the_distributions() {
        let mut rng = Key::new(7).rng();
        let n = 40_000;
        let mut mean =
            |draw: &mut dyn FnMut(&mut Rng) -> f64| (0..n).map(|_| draw(&mut rng)).sum::<f64>() / f64::from(n);
        assert!((mean(&mut |r| r.uniform()) - 0.5).abs() < 0.01);
        assert!(mean(&mut |r| r.normal()).abs() < 0.02);
        assert!((mean(&mut |r| r.normal().powi(2)) - 1.0).abs() < 0.03);
        assert!((mean(&mut |r| r.beta(0.2, 0.2)) - 0.5).abs() < 0.01);
        assert!((mean(&mut |r| (r.beta(0.2, 0.2) - 0.5).powi(2)) - 0.25 / 1.4).abs() < 0.005);
    }

    #[test]
    fn skipping_is_drawing_unseen() {
        for (before, skipped) in [(0, 0), (1, 3), (3, 0), (2, 7), (5, 4)] {
            let (mut drawn, mut skipping) = (Key::new(3).rng(), Key::new(3).rng());
            for _ in 0..before {
                assert_eq!(drawn.uniform(), skipping.uniform());
            }
            (0..skipped).for_each(|_| _ = drawn.normal());
            skipping.skip_normals(skipped);
            assert_eq!(drawn.place(), skipping.place());
            (0..skipped).for_each(|_| _ = drawn.uniform());
            skipping.skip_uniforms(skipped);
            assert_eq!(drawn.next_u32(), skipping.next_u32());
        }
    }

    #[test]
    fn keys_do_not_meet() {
        let keys = [
            Key::new(0),
            Key::new(1),
            Key::new(0).with(0),
            Key::new(0).with(1),
            Key::new(0).named("a"),
            Key::new(0).named("b"),
        ];
        let firsts: std::collections::BTreeSet<u32> = keys.iter().map(|key| key.rng().next_u32()).collect();
        assert_eq!(firsts.len(), keys.len());
    }
}
