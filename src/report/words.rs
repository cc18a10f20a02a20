//! How numbers, metrics and times are written: no more digits than their uncertainty supports.

/// A metric's name as people write it.
pub fn metric(name: &str) -> String {
    match name {
        "auc" | "ap" | "eer" | "f1" | "mcc" | "ece" => name.to_uppercase(),
        "macro_auc" => "macro AUC".into(),
        _ => name.replace("tpr_at_fpr_", "TPR at FPR ").replace('_', " "),
    }
}

/// The digits behind the point that a column needs, between 2 and 4; 3 where no uncertainty is known. The largest
/// uncertainty is shown to two digits below 3.55 and to one above (the Particle Data Group's rule), the smallest to one.
pub fn decimals(uncertainties: impl IntoIterator<Item = f64>) -> usize {
    let place = |uncertainty: f64| -uncertainty.log10().floor();
    let known: Vec<f64> = uncertainties.into_iter().filter(|u| u.is_finite() && *u > 0.0).collect();
    let largest = known.iter().copied().reduce(f64::max);
    let smallest = known.iter().copied().reduce(f64::min);
    let (Some(largest), Some(smallest)) = (largest, smallest) else { return 3 };
    let leading = largest * 10f64.powf(place(largest));
    let digits = place(largest) + if leading < 3.55 { 1.0 } else { 0.0 };
    digits.max(place(smallest)).clamp(2.0, 4.0) as usize
}

/// `0.912`, `−0.034`; `not a number` where it is none.
pub fn number(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        return "not a number".into();
    }
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

/// With a sign in front: `+0.012`, `−0.034`, `0.000`.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value > 0.0 && !zero { format!("+{text}") } else { text }
}

/// `0.912 ± 0.004`, or the mean alone where there is no spread.
pub fn spread(mean: f64, sd: Option<f64>, decimals: usize) -> String {
    match sd {
        Some(sd) => format!("{} ± {}", number(mean, decimals), number(sd, decimals)),
        None => number(mean, decimals),
    }
}

/// `+0.002 to +0.021`.
pub fn interval((low, high): (f64, f64), decimals: usize) -> String {
    format!("{} to {}", signed(low, decimals), signed(high, decimals))
}

/// `850 ms`, `12.4 s`, `3 min 20 s`, `1 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match seconds {
        s if !s.is_finite() => "unknown".into(),
        s if s < 1.0 => format!("{:.0} ms", s.max(0.0) * 1000.0),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `11.2 M`, `450 k`, `980`.
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.0} k", n as f64 / 1e3),
        _ => format!("{:.1} M", n as f64 / 1e6),
    }
}

/// Images per second: `1240`, `86`, `3.4`.
pub fn rate(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// `1 seed`, `3 seeds`.
pub fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

/// `2026-11-23 08:51 UTC` of seconds since the Unix epoch (days to dates after Hinnant, "chrono-compatible low-level
/// date algorithms").
pub fn date(seconds: f64) -> String {
    let seconds = seconds as i64;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_uncertainty() {
        assert_eq!(decimals([0.012]), 3);
        assert_eq!(decimals([0.0066]), 3);
        assert_eq!(decimals([0.2]), 2);
        assert_eq!(decimals([0.03, 0.0004]), 4);
        assert_eq!(decimals([0.0, f64::NAN]), 3);
        assert_eq!(number(-0.0342, 3), "−0.034");
        assert_eq!(number(-0.0002, 3), "0.000");
        assert_eq!(signed(0.0342, 2), "+0.03");
        assert_eq!(spread(0.91234, Some(0.0041), 4), "0.9123 ± 0.0041");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(date(0.0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_709_210_096.0), "2024-02-29 12:34 UTC");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(3900.0), "1 h 05 min");
        assert_eq!(duration(0.85), "850 ms");
        assert_eq!((count(11_181_642), count(450_000)), ("11.2 M".into(), "450 k".into()));
    }
}
