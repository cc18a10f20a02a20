//! The numbers behind a verdict against SciPy's (tests/golden/statistics.py), and the verdicts themselves.

use runner::report::statistics::*;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/statistics.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn close(ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1e-3), "{ours} is not {theirs}");
}

#[test]
fn means_and_spreads() {
    for sample in golden()["samples"].as_array().unwrap() {
        let values = numbers(&sample["values"]);
        close(mean(&values).unwrap(), number(&sample["mean"]));
        close(sd(&values).unwrap(), number(&sample["sd"]));
        close(half_width(&values, 0.0).unwrap(), number(&sample["half_width"]));
    }
    assert_eq!((mean(&[]), sd(&[1.0]), half_width(&[1.0], 0.0)), (None, None, None));
}

#[test]
fn student_t() {
    for case in golden()["t_quantile"].as_array().unwrap() {
        let case = numbers(case);
        close(t_quantile(case[0], case[1]), case[2]);
    }
    for case in golden()["t_cdf"].as_array().unwrap() {
        let case = numbers(case);
        close(t_cdf(case[0], case[1]), case[2]);
    }
}

#[test]
fn paired_differences() {
    for case in golden()["pairs"].as_array().unwrap() {
        let ours = paired(&numbers(&case["differences"])).unwrap();
        close(ours.difference, number(&case["difference"]));
        close(ours.sd.unwrap(), number(&case["sd"]));
        let (low, high) = ours.interval.unwrap();
        close(low, number(&case["interval"][0]));
        close(high, number(&case["interval"][1]));
        close(ours.p.unwrap(), number(&case["p"]));
        let ours = resampled(&numbers(&case["differences"]), 0.25).unwrap();
        let (low, high) = ours.interval.unwrap();
        close(low, number(&case["resampled"][0]));
        close(high, number(&case["resampled"][1]));
        close(ours.p.unwrap(), number(&case["resampled"][2]));
    }
    assert_eq!(paired(&[]), None);
    let one = paired(&[0.25]).unwrap();
    assert_eq!((one.n, one.difference, one.interval, one.p), (1, 0.25, None, None));
    for same in [[0.0; 3], [0.1; 3], [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6]] {
        assert_eq!(paired(&same).unwrap().interval, None, "no spread, no interval");
    }
}

#[test]
fn corrections_and_seeds() {
    for case in golden()["holm"].as_array().unwrap() {
        for (ours, theirs) in holm(&numbers(&case[0])).into_iter().zip(numbers(&case[1])) {
            close(ours, theirs);
        }
    }
    for case in golden()["pairs_needed"].as_array().unwrap() {
        let case = numbers(case);
        let ours = pairs_needed(case[0], case[1], case[2], 0.0).unwrap() as f64;
        assert!((ours - case[3]).abs() <= 1.0, "{ours} pairs, exactly {}", case[3]);
    }
    assert_eq!(pairs_needed(1.0, 0.001, 0.05, 0.0), None);
    assert_eq!(pairs_needed(1.0, 0.0, 0.05, 0.0), None);
    assert_eq!(pairs_needed(1.0, 1.0, 0.05, 0.25), None, "more folds do not make up for what they share");
    assert!(pairs_needed(1.0, 2.4, 0.05, 0.25) > pairs_needed(1.0, 2.4, 0.05, 0.0));
}

#[test]
fn quantiles() {
    let golden = golden();
    let mut sorted = numbers(&golden["samples"][4]["values"]);
    sorted.sort_by(f64::total_cmp);
    for case in golden["quantile"].as_array().unwrap() {
        close(quantile(&sorted, number(&case[0])), number(&case[1]));
    }
}

/// The percentile bootstrap of a mean agrees with the t interval of a large sample, and repeats itself.
#[test]
fn bootstrap_intervals() {
    let mut rng = runner::tensor::rng::Key::new(3).rng();
    let values: Vec<f64> = (0..400).map(|_| rng.normal()).collect();
    let of = |images: &[usize]| mean(&images.iter().map(|i| values[*i]).collect::<Vec<_>>());
    let (low, high) = bootstrap(values.len(), of).unwrap();
    let (middle, half) = (mean(&values).unwrap(), half_width(&values, 0.0).unwrap());
    assert!((low - (middle - half)).abs() < 0.2 * half && (high - (middle + half)).abs() < 0.2 * half, "{low} {high}");
    assert_eq!(bootstrap(values.len(), of), Some((low, high)));
    assert_eq!(bootstrap(5, |_| None), None);
    assert_eq!(bootstrap(0, |_| Some(1.0)), None);
}
