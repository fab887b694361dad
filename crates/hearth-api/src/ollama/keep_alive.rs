//! `keep_alive`: seconds, or a duration as Go writes it (`5m`, `1h30m`).

use std::time::Duration;

use hearth_proto::KeepAlive;
use serde::de::Error;
use serde_json::Number;

use crate::shape::{Shape, deserialize_by_shape, refusal};

/// Longer values mean for ever: a hundred years in seconds.
const FOREVER_S: f64 = 100.0 * 365.25 * 86_400.0;
/// Go's units, in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// The keep-alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAliveField(pub KeepAlive);

deserialize_by_shape!(KeepAliveField);

impl Shape<'_> for KeepAliveField {
    const WHAT: &'static str =
        "must be a number of seconds or a duration as \"5m\"; -1 is for ever";

    fn number<E: Error>(number: &Number) -> Result<Self, E> {
        number.as_f64().map(Self::of).ok_or_else(refusal::<Self, E>)
    }

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        seconds(text).map(Self::of).ok_or_else(refusal::<Self, E>)
    }
}

impl KeepAliveField {
    fn of(seconds: f64) -> Self {
        Self(if (0.0..=FOREVER_S).contains(&seconds) {
            KeepAlive::For(Duration::from_secs_f64(seconds))
        } else {
            KeepAlive::Forever
        })
    }
}

/// A duration in seconds. A number without a unit is taken as seconds: Go would refuse it,
/// but users write it.
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = None;
    while !rest.is_empty() {
        let unit_at = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(unit_at);
        let number: f64 = number.parse().ok()?;
        let next = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(next);
        let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() && total.is_none() => 1.0,
            None => return None,
        };
        total = Some(total.unwrap_or(0.0) + number * factor);
        rest = after;
    }
    total.map(|total| sign * total)
}

#[cfg(test)]
mod tests {
    use hearth_proto::Failure;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::read::read_value;

    fn keep_alive(value: &Value) -> Result<Option<KeepAlive>, Failure> {
        let field: Option<KeepAliveField> = read_value("keep_alive", value)?;
        Ok(field.map(|field| field.0))
    }

    #[test]
    fn all_forms_of_keep_alive_are_read() {
        let ms = |n| Some(KeepAlive::For(Duration::from_millis(n)));
        for (value, expected) in [
            (json!(null), None),
            (json!(0), ms(0)),
            (json!(-1), Some(KeepAlive::Forever)),
            (json!(-1.0), Some(KeepAlive::Forever)),
            (json!(300), ms(300_000)),
            (json!(0.5), ms(500)),
            (json!(1e300), Some(KeepAlive::Forever)),
            (json!("0"), ms(0)),
            (json!("0s"), ms(0)),
            (json!("5m"), ms(300_000)),
            (json!("300s"), ms(300_000)),
            (json!("1h30m"), ms(5_400_000)),
            (json!("1.5s"), ms(1500)),
            (json!("250ms"), ms(250)),
            (json!("-1"), Some(KeepAlive::Forever)),
            (json!("-1m"), Some(KeepAlive::Forever)),
            (json!("24h"), ms(86_400_000)),
            (json!("60"), ms(60_000)),
        ] {
            assert_eq!(keep_alive(&value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn invalid_keep_alives_are_refused() {
        for value in [
            json!(""),
            json!("-"),
            json!("5 m"),
            json!("m"),
            json!("5x"),
            json!("1h5"),
            json!("inf"),
            json!("1..5s"),
            json!(true),
            json!([5]),
            json!({}),
        ] {
            let error = keep_alive(&value).unwrap_err();
            assert!(error.message.contains("`keep_alive`"), "{value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_values_do_not_panic(text in "[-+0-9.a-zµ ]{0,12}") {
            _ = keep_alive(&json!(text));
        }
    }
}
