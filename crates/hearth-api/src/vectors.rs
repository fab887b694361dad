//! Vectors of texts.

/// Shortens a vector to its first dimensions, where it has more. What remains has length one
/// again.
pub fn shorten(vector: &mut Vec<f32>, dimensions: u32) {
    let Some(wanted) = usize::try_from(dimensions)
        .ok()
        .filter(|n| *n < vector.len())
    else {
        return;
    };
    vector.truncate(wanted);
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        for number in vector {
            *number /= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_shortened_to_length_one() {
        let shortened = |dimensions| {
            let mut vector = vec![0.48, 0.36, 0.8];
            shorten(&mut vector, dimensions);
            vector
        };
        for kept in [3, 7, u32::MAX] {
            assert_eq!(shortened(kept), [0.48, 0.36, 0.8]);
        }
        let two = shortened(2);
        assert!(two.len() == 2 && (two[0] - 0.8).abs() < 1e-6 && (two[1] - 0.6).abs() < 1e-6);
        let mut zeros = vec![0.0, 0.0];
        shorten(&mut zeros, 1);
        assert_eq!(zeros, [0.0]);
    }
}
