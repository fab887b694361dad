//! Dates, and `strftime` for chat templates: dates only, in English, of a day that is given.

use std::fmt::Write as _;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Formats an ISO date. Times of the day are midnight; a directive that is not known
/// stays as it is, and so does everything where the date is none.
pub(super) fn strftime(date: &str, format: &str) -> String {
    let Some((year, month, day)) = parse(date) else {
        return date.to_owned();
    };
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[weekday(year, month, day)];
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('Y') => _ = write!(out, "{year:04}"),
            Some('y') => _ = write!(out, "{:02}", year % 100),
            Some('m') => _ = write!(out, "{month:02}"),
            Some('d') => _ = write!(out, "{day:02}"),
            Some('e') => _ = write!(out, "{day:2}"),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('F') => _ = write!(out, "{year:04}-{month:02}-{day:02}"),
            Some('H' | 'M' | 'S') => out.push_str("00"),
            Some('%') | None => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

/// Days since 1970-01-01 as a Gregorian date (the era method: 400 years have
/// 146,097 days, years begin in March).
pub fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn parse(date: &str) -> Option<(usize, usize, usize)> {
    let mut parts = date.splitn(3, '-').map(str::parse);
    let mut next = || parts.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let plausible = year >= 1 && (1..=12).contains(&month) && (1..=31).contains(&day);
    plausible.then_some((year, month, day))
}

/// 0 is Sunday (Sakamoto's method).
fn weekday(year: usize, month: usize, day: usize) -> usize {
    const SHIFT: [usize; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let year = if month < 3 { year - 1 } else { year };
    (year + year / 4 - year / 100 + year / 400 + SHIFT[month - 1] + day) % 7
}

#[cfg(test)]
mod tests {
    use super::{civil, strftime};

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }

    #[test]
    fn what_templates_ask_for() {
        let day = |format| strftime("2026-01-05", format);
        assert_eq!(day("%d %b %Y"), "05 Jan 2026");
        assert_eq!(day("%A, %B %e, %Y"), "Monday, January  5, 2026");
        assert_eq!(day("%F %H:%M 100%% %Q %"), "2026-01-05 00:00 100% %Q %");
        assert_eq!(strftime("2024-02-29", "%a"), "Thu");
        assert_eq!(strftime("soon", "%Y"), "soon");
    }
}
