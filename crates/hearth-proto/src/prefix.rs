//! The common prefix of two sequences.

/// How many elements two sequences have in common at their beginning. Reversed iterators
/// give the common suffix.
pub fn common_prefix<T: PartialEq>(
    a: impl IntoIterator<Item = T>,
    b: impl IntoIterator<Item = T>,
) -> usize {
    let pairs = a.into_iter().zip(b);
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::common_prefix;

    #[test]
    fn equal_elements_count_up_to_the_first_difference() {
        assert_eq!(common_prefix(&[1, 2, 3], &[1, 2, 4, 5]), 2);
        assert_eq!(common_prefix(&[1, 2], &[1, 2, 3]), 2);
        assert_eq!(common_prefix(&[3, 2], &[1, 2]), 0);
        assert_eq!(common_prefix([3, 2].iter().rev(), [1, 2].iter().rev()), 1);
        assert_eq!(common_prefix("abc".chars(), "abd".chars()), 2);
    }
}
