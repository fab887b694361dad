//! Random numbers as llama.cpp draws them, by position.
//!
//! llama.cpp draws once for each token from a `std::mt19937` that its samplers keep. Here
//! a draw is indexed by the token's position in the answer instead, so that an answer
//! that is resumed in another process continues with the same draws. The numbers are the
//! same: a seed gives the same tokens as in llama.cpp.

/// Words of the generator's state.
const WORDS: usize = 624;

/// The Mersenne Twister of Matsumoto and Nishimura (1998) with 32-bit words, as the C++
/// standard defines `std::mt19937`.
#[derive(Clone, Debug)]
struct Twister {
    state: [u32; WORDS],
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        for n in 1..WORDS {
            let last = state[n - 1];
            let index = u32::try_from(n).unwrap_or(0);
            state[n] = 1_812_433_253u32
                .wrapping_mul(last ^ (last >> 30))
                .wrapping_add(index);
        }
        Self { state, next: WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.next == WORDS {
            for n in 0..WORDS {
                let mixed =
                    (self.state[n] & 0x8000_0000) | (self.state[(n + 1) % WORDS] & 0x7fff_ffff);
                let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[n] = self.state[(n + 397) % WORDS] ^ (mixed >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

/// Random access to the words of a seed's generator.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    seed: u32,
    twister: Twister,
    /// Words taken so far.
    taken: u64,
}

impl Draws {
    pub(super) fn new(seed: u32) -> Self {
        Self {
            seed,
            twister: Twister::new(seed),
            taken: 0,
        }
    }

    fn skip_to(&mut self, word: u64) {
        if word < self.taken {
            *self = Self::new(self.seed);
        }
        while self.taken < word {
            self.word();
        }
    }

    fn word(&mut self) -> u32 {
        self.taken += 1;
        self.twister.next()
    }

    /// The number (0 to below 1) at index `place`, as the `place`-th draw of libstdc++'s
    /// `std::uniform_real_distribution<double>`: each takes two words.
    pub(super) fn double(&mut self, place: u32) -> f64 {
        self.skip_to(2 * u64::from(place));
        let (low, high) = (f64::from(self.word()), f64::from(self.word()));
        let both = (low + high * 2f64.powi(32)) / 2f64.powi(64);
        both.min(1.0f64.next_down())
    }

    /// The same for `std::uniform_real_distribution<float>`: each takes one word.
    pub(super) fn single(&mut self, place: u32) -> f32 {
        self.skip_to(place.into());
        #[expect(clippy::cast_precision_loss, reason = "as libstdc++ rounds")]
        let share = self.word() as f32 / 2f32.powi(32);
        share.min(1.0f32.next_down())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C++ standard, [rand.predef]: the result of the 10,000th call.
    #[test]
    fn the_generator_is_that_of_the_cpp_standard() {
        let mut twister = Twister::new(5489);
        for _ in 1..10_000 {
            twister.next();
        }
        assert_eq!(twister.next(), 4_123_659_995);
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_only() {
        let mut draws = Draws::new(7);
        let doubles: Vec<f64> = (0..700).map(|place| draws.double(place)).collect();
        assert!(doubles.iter().all(|n| (0.0..1.0).contains(n)));
        for place in [699, 3, 400, 0] {
            let number = doubles[place as usize];
            assert_eq!(draws.double(place).to_bits(), number.to_bits());
            assert_eq!(Draws::new(7).double(place).to_bits(), number.to_bits());
        }
        assert_ne!(Draws::new(8).double(0).to_bits(), doubles[0].to_bits());
    }
}
