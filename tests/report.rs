//! Reports of made stores: what they say, what they escape, what they never claim.

use runner::{
    error::Cause,
    event::{Event, Prediction, Record, Split, Values},
    report::{self, Verdict},
    store::{NewRun, NewSweep, Store},
    tensor::rng::Key,
};
use std::path::{Path, PathBuf};

/// A sweep to be told to a store.
struct Made {
    dir: tempfile::TempDir,
    store: Store,
    runs: Vec<NewRun>,
    experiments: Vec<(String, String)>,
    classes: Vec<String>,
}

/// How one run ends.
enum End {
    /// With this validation AUC, and scores that separate the classes by this much.
    Auc(f64),
    Failed(&'static str),
    Pending,
}

fn spec(lr: f64, mode: &str) -> String {
    format!(
        "epochs = 5\naugment = [{{ random_horizontal_flip = {{ p = 0.5 }} }}]\n[optimizer.adam]\nlr = {lr}\n[select]\nmetric = \"auc\"\nmode = \"{mode}\"\n"
    )
}

fn values(pairs: &[(&str, f64)]) -> Values {
    pairs.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

impl Made {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("runner.sqlite")).unwrap();
        let experiments =
            names.iter().enumerate().map(|(i, name)| (name.to_string(), spec(0.001 * (i + 1) as f64, "max"))).collect();
        Self { dir, store, runs: Vec::new(), experiments, classes: vec!["real".into(), "fake".into()] }
    }

    /// Adds the runs of an experiment's point, one for each seed from 0.
    fn point(mut self, experiment: usize, point: &str, ends: &[End]) -> Self {
        let (name, spec) = self.experiments[experiment].clone();
        for (seed, end) in ends.iter().enumerate() {
            let id = format!("{:016x}", 0x1000 * self.runs.len() + 0xabc);
            let (experiment, point, spec) = (name.clone(), point.to_string(), spec.clone());
            self.runs.push(NewRun { id, experiment, point, seed: seed as u64, fold: None, spec, data: "f00d".into() });
            self.plan();
            self.tell(seed as u64, end);
        }
        self
    }

    fn plan(&mut self) {
        let (file, path) = ("name = \"made\" # <script>alert(1)</script>", "experiments/made.toml");
        let new =
            NewSweep { name: "made", file, path, partial: false, experiments: &self.experiments, runs: &self.runs };
        self.store.add_sweep(&new).unwrap();
    }

    fn tell(&mut self, seed: u64, end: &End) {
        let id = self.runs.last().unwrap().id.clone();
        let start = Event::Started {
            attempt: 1,
            device: "cpu".into(),
            threads: 2,
            epoch: 0,
            epochs: 5,
            steps_per_epoch: 10,
            parameters: 11_178_564,
        };
        let mut events = vec![start];
        match end {
            End::Pending => return,
            End::Failed(message) => {
                events.push(Event::Failed { cause: Cause::NonFinite, message: message.to_string() })
            }
            End::Auc(auc) => events.extend(self.finished(seed, *auc)),
        }
        let record = |(i, event)| Record { time: 1.7e9 + 30.0 * i as f64, attempt: 1, event };
        let records: Vec<Record> = events.into_iter().enumerate().map(record).collect();
        self.store.ingest(&id, &records, 1).unwrap();
    }

    fn finished(&self, seed: u64, auc: f64) -> Vec<Event> {
        let mut events = Vec::new();
        for epoch in 1..=5 {
            let share = 1.0 - (-0.8 * f64::from(epoch)).exp();
            let wobble = 0.004 * Key::new(seed).with(epoch.into()).rng().normal();
            let (metric, loss) = (0.5 + (auc - 0.5) * share + wobble, 0.7 - 0.5 * share);
            events.push(Event::Epoch { epoch, split: Split::Train, values: values(&[("loss", loss - 0.05 + wobble)]) });
            let val = values(&[("auc", metric), ("loss", loss + wobble), ("accuracy", metric - 0.05)]);
            events.push(Event::Epoch { epoch, split: Split::Val, values: val });
        }
        let rows = (0..240u32).map(|image| self.prediction(seed, image, auc)).collect();
        events.push(Event::Predictions { epoch: 5, split: Split::Val, classes: self.classes.clone(), rows });
        events.push(Event::Warning { message: "started from scratch: pretrained weights were not available".into() });
        let summary =
            [("auc", auc), ("accuracy", auc - 0.05), ("loss", 0.3), ("seconds", 83.0), ("images_per_second", 212.4)];
        events.push(Event::Finished { best_epoch: 4, summary: values(&summary) });
        events
    }

    fn prediction(&self, seed: u64, image: u32, auc: f64) -> Prediction {
        let classes = self.classes.len() as u32;
        let target = image % classes;
        let mut rng = Key::new(seed).named("score").with(image.into()).rng();
        let raw =
            (0..classes).map(|class| (rng.normal() + if class == target { 8.0 * (auc - 0.5) } else { 0.0 }).exp());
        let raw: Vec<f64> = raw.collect();
        let sum: f64 = raw.iter().sum();
        Prediction {
            image: format!("{image:05}.jpg"),
            target,
            scores: raw.iter().map(|score| (score / sum) as f32).collect(),
        }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("made")
    }

    fn html(&self) -> String {
        report::write(&self.store, "made", &self.out()).unwrap();
        std::fs::read_to_string(self.out().join("report.html")).unwrap()
    }

    fn markdown(&self) -> String {
        self.html();
        std::fs::read_to_string(self.out().join("report.md")).unwrap()
    }
}

fn finished(aucs: &[f64]) -> Vec<End> {
    aucs.iter().map(|auc| End::Auc(*auc)).collect()
}

const BASE: [f64; 3] = [0.871, 0.879, 0.866];
const STRONG: [f64; 3] = [0.912, 0.921, 0.905];

fn two() -> Made {
    Made::new(&["baseline", "strong"]).point(0, "", &finished(&BASE)).point(1, "", &finished(&STRONG))
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{}", &text[text.len().min(3200)..text.len().min(9000)]);
    }
}

/// The text of a page between tags, roughly.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in html.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    text
}

#[test]
fn a_winner_is_named_with_its_interval() {
    let made = two();
    let html = made.html();
    // The paired t interval of SciPy: mean 0.04067, 0.03687 to 0.04446 over differences 0.041, 0.042, 0.039.
    let verdict = "strong is better than baseline (+0.041 AUC, 95 % interval +0.037 to +0.044, paired over 3 seeds).";
    holds(&html, &[verdict, "0.872 ± 0.007", "reference", "11.2 M", "1 min 23 s", "212"]);
    holds(
        &html,
        &["<svg role=\"img\" aria-label=\"Learning curves\"", "aria-label=\"ROC\"", "aria-label=\"Confusion matrix\""],
    );
    holds(
        &words(&html),
        &["optimizer.adam.lr0.0010.002", "started from scratch", "0000000000000abc", "4 of 5", "finished"],
    );
    assert!(!html.contains("This report is partial"));
    holds(
        &made.markdown(),
        &["**strong is better than baseline", "| **strong** |", "](figures/roc.svg)", "## What differs"],
    );
    assert_eq!(report::verdict(&made.store, "made").unwrap(), verdict);
}

#[test]
fn a_small_difference_is_not_sold() {
    let made = Made::new(&["a", "b"]).point(0, "", &finished(&BASE)).point(1, "", &finished(&[0.875, 0.874, 0.874]));
    holds(&made.html(), &["Cannot tell whether b differs from a: needs about", "more seeds ("]);
}

#[test]
fn one_seed_has_no_interval() {
    let made = Made::new(&["a", "b"]).point(0, "", &finished(&[0.8])).point(1, "", &finished(&[0.9]));
    let html = made.html();
    holds(&html, &["Cannot tell whether b differs from a: one seed, no interval (+0.100 AUC", "0.800"]);
    assert!(!html.contains("± ") || !words(&html).contains("0.800 ±"));
}

#[test]
fn partial_sweeps_say_so() {
    let broken = "loss is NaN at step 7 <img src=x>";
    let made = Made::new(&["a", "b"]).point(0, "", &[End::Auc(0.8), End::Auc(0.81), End::Pending]).point(
        1,
        "",
        &[End::Auc(0.9), End::Failed(broken), End::Auc(0.92)],
    );
    let html = made.html();
    holds(&html, &["This report is partial: 4 of 6 runs have finished (1 failed, 1 not yet done).", "2 of 3"]);
    holds(&html, &["loss is NaN at step 7 &lt;img src=x&gt;", "b is compared over the 1 seed both have finished"]);
    assert!(!html.contains("<img"));
}

#[test]
fn an_empty_sweep_has_a_report_too() {
    let made = Made::new(&["a", "b"]).point(0, "", &[End::Pending]).point(1, "", &[End::Failed("no such file")]);
    holds(&made.html(), &["No run has finished yet", "no such file", "partial: 0 of 2 runs"]);
    let alone = Made::new(&["a"]).point(0, "", &finished(&BASE));
    holds(&alone.html(), &["a reaches a validation AUC of 0.872 ± 0.007 over 3 seeds."]);
    let missing = Made::new(&["a", "b"]).point(0, "", &[End::Pending]).point(1, "", &finished(&BASE));
    holds(&missing.html(), &["No run of a, which the others are compared to, has finished: no comparison yet."]);
}

#[test]
fn grids_are_compared_at_their_best_points_and_say_so() {
    let made = Made::new(&["a", "b"])
        .point(0, "optimizer.adam.lr=0.1", &finished(&[0.70, 0.71]))
        .point(0, "optimizer.adam.lr=0.01", &finished(&[0.80, 0.81]))
        .point(1, "optimizer.adam.lr=0.1", &finished(&[0.85, 0.86]))
        // One lucky seed does not make a point the best.
        .point(1, "optimizer.adam.lr=0.01", &[End::Auc(0.99), End::Pending]);
    let html = made.html();
    holds(
        &html,
        &["a (optimizer.adam.lr=0.01)", "b (optimizer.adam.lr=0.1)", "picked among up to 2 points", "Every point"],
    );
    let comparison = report::compare(&made.store, "a", "b").unwrap();
    assert_eq!(comparison.verdict, Verdict::NoSpread);
    assert!(comparison.to_string().contains("picked among up to 2 points"), "{comparison}");
}

#[test]
fn what_each_key_does_is_drawn() {
    let mut made = Made::new(&["a"]);
    for (index, lr) in ["0.0001", "0.003", "0.05"].into_iter().enumerate() {
        let augment = ["[]", "[{ cutmix = {} }, { mixup = {} }]"][index % 2];
        made = made.point(
            0,
            &format!("optimizer.adam.lr={lr}, augment={augment}"),
            &[End::Auc(0.7 + 0.05 * index as f64)],
        );
    }
    let html = made.html();
    holds(&words(&html), &["What each key does"]);
    let svg = std::fs::read_to_string(made.out().join("figures/keys.svg")).unwrap();
    well_formed(&svg);
    for part in ["optimizer.adam.lr", "0.001", "augment", "[]", "circle"] {
        assert!(svg.contains(part), "{part}");
    }
    let two = Made::new(&["a"]).point(0, "lr=0.1", &finished(&BASE)).point(0, "lr=0.2", &finished(&BASE));
    assert!(!two.html().contains("What each key does"));
}

#[test]
fn classes_have_numbers_of_their_own() {
    let mut made = Made::new(&["baseline", "strong"]);
    made.classes = ["cat", "dog", "bird"].map(String::from).to_vec();
    let made = made.point(0, "", &finished(&BASE)).point(1, "", &finished(&STRONG));
    let page = made.markdown();
    holds(&page, &["## Each class", "| baseline | cat | 80 |", "| strong | bird | 80 |"]);
}

#[test]
fn several_comparisons_are_corrected() {
    let two_seeds = |aucs: [f64; 3]| finished(&aucs);
    let made = Made::new(&["a", "b", "c", "d"])
        .point(0, "", &two_seeds([0.80, 0.82, 0.81]))
        // p = 0.030 alone: not below 0.05 after Holm with two more.
        .point(1, "", &two_seeds([0.83, 0.838, 0.847]))
        .point(2, "", &two_seeds([0.81, 0.79, 0.83]))
        .point(3, "", &two_seeds([0.70, 0.722, 0.711]));
    let html = made.html();
    holds(
        &html,
        &["after correction for 3 comparisons", "corrected for 3 comparisons (Holm)", "Also worse than a: d."],
    );
    let alone = report::compare(&made.store, "a", "made/b").unwrap();
    assert_eq!(alone.verdict, Verdict::Better, "{alone}");
    assert_eq!(report::compare(&made.store, "b", "a").unwrap().verdict, Verdict::Worse);
}

#[test]
fn smaller_can_be_better() {
    let mut made = Made::new(&["a", "b"]);
    made.experiments.iter_mut().for_each(|(_, text)| *text = spec(0.1, "min"));
    let made = made.point(0, "", &finished(&BASE)).point(1, "", &finished(&STRONG));
    let html = made.html();
    holds(&html, &["b is worse than a (+0.041 AUC", "smaller is better"]);
    assert!(words(&html).contains("the same specification"));
}

#[test]
fn three_classes_have_curves_and_a_matrix() {
    let mut made = Made::new(&["a", "b"]);
    made.classes = ["cat", "dog & <b>co</b>", "bird"].map(String::from).to_vec();
    let html = made.point(0, "", &finished(&BASE)).point(1, "", &finished(&STRONG)).html();
    holds(&html, &["Each class of b (seed 0) against the rest", "dog &amp; &lt;b&gt;co"]);
    assert!(!html.contains("<b>co"));
}

#[test]
fn names_and_files_are_escaped() {
    let name = "<script>alert('x')</script> | *bold* _b_ [l](u)";
    let made = Made::new(&["a", name]).point(0, "", &finished(&BASE)).point(1, "", &finished(&STRONG));
    let html = made.html();
    assert!(!html.contains("<script"), "a script slipped through");
    holds(&html, &["&lt;script&gt;alert("]);
    let markdown = made.markdown();
    holds(&markdown, &["&lt;script>alert('x')&lt;/script> \\| \\*bold\\*", "\\[l\\](u)"]);
    let outside: Vec<&str> = markdown.split("```").step_by(2).collect();
    assert!(!outside.concat().contains("<script"));
    for svg in files(&made.out().join("figures"), "svg") {
        assert!(!std::fs::read_to_string(svg).unwrap().contains("<script"));
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let html = two().html().to_lowercase();
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<link", "<script", "<iframe"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert!(html.contains("prefers-color-scheme: dark"));
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

#[test]
fn figures_are_whole_and_of_their_size() {
    let made = two();
    made.html();
    let folder = made.out().join("figures");
    let (svgs, pngs) = (files(&folder, "svg"), files(&folder, "png"));
    let names: Vec<_> = svgs.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["confusion", "experiments", "learning-curves", "loss-curves", "roc"]);
    for (svg, png) in svgs.iter().zip(&pngs) {
        let text = std::fs::read_to_string(svg).unwrap();
        let (width, height) = well_formed(&text);
        let image = image::open(png).unwrap();
        assert_eq!((image.width(), image.height()), (2 * width, 2 * height), "{png:?}");
        let dark = image.to_luma8().pixels().filter(|pixel| pixel.0[0] < 120).count();
        assert!(dark > 500, "{png:?} is empty");
        assert!(text.contains("<text"), "{svg:?} holds no readable text");
    }
    assert!(std::fs::read_to_string(folder.join("roc.svg")).unwrap().contains("strong"));
}

/// Checks that every tag is closed in order and returns the size of the drawing.
fn well_formed(svg: &str) -> (u32, u32) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag without an end");
        match tag {
            tag if tag.starts_with(['?', '!']) || tag.ends_with('/') => {}
            tag if tag.starts_with('/') => assert_eq!(open.pop(), Some(&tag[1..])),
            tag => open.push(tag.split_whitespace().next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let number =
        |key: &str| svg.split_once(&format!("{key}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap();
    (number("<svg width"), number("height"))
}

#[test]
fn the_same_store_gives_the_same_bytes() {
    let made = two();
    let all = |dir: &Path| -> Vec<Vec<u8>> {
        let mut paths = vec![dir.join("report.html"), dir.join("report.md")];
        paths.extend(["svg", "png"].iter().flat_map(|ending| files(&dir.join("figures"), ending)));
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    };
    made.html();
    let once = all(&made.out());
    made.html();
    assert_eq!(all(&made.out()), once);
    let entries = std::fs::read_dir(made.out()).unwrap().count();
    assert_eq!(entries, 3, "temporary files were left");
}

#[test]
fn runs_are_compared_over_images() {
    let mut made = Made::new(&["a"]);
    made.experiments[0].1 = spec(0.1, "max").replace("\"auc\"", "\"accuracy\"");
    let made = made.point(0, "", &finished(&[0.70, 0.95]));
    let (a, b) = (made.runs[0].id.as_str(), made.runs[1].id.as_str());
    let store = Store::read(&made.dir.path().join("runner.sqlite")).unwrap();
    let comparison = report::compare(&store, a, b).unwrap();
    assert_eq!(comparison.verdict, Verdict::Better, "{comparison}");
    assert_eq!(report::compare(&store, a, b).unwrap(), comparison);
    assert_eq!(report::compare(&store, a, a).unwrap().verdict, Verdict::Same);
    assert!(comparison.to_string().contains("interval is over images"));
    let refused = |b: &str| report::compare(&store, a, b).unwrap_err().to_string();
    assert!(refused("zz").contains("`zz` is neither an experiment nor the beginning of a run's id"));
    assert!(refused("a").contains("`a` is an experiment"));
}

#[test]
fn experiments_of_two_sweeps_are_compared_where_that_means_something() {
    let mut made = two();
    let other = |data: &str| {
        let run = |(seed, id): (usize, &str)| NewRun {
            id: id.into(),
            experiment: "late".into(),
            point: String::new(),
            seed: seed as u64,
            fold: None,
            spec: spec(0.1, "max"),
            data: data.into(),
        };
        ["a1", "a2", "a3"].into_iter().enumerate().map(run).collect::<Vec<NewRun>>()
    };
    let experiments = [("late".to_string(), spec(0.1, "max"))];
    let mut plan = |name, runs: &[NewRun]| {
        let sweep = NewSweep { name, file: "", path: "other.toml", partial: false, experiments: &experiments, runs };
        made.store.add_sweep(&sweep).unwrap();
    };
    plan("other", &other("f00d"));
    let elsewhere = other("beef").into_iter().map(|run| NewRun { id: format!("b{}", run.id), ..run });
    plan("elsewhere", &elsewhere.collect::<Vec<NewRun>>());
    for (run, auc) in other("f00d").into_iter().zip([0.93, 0.94, 0.92]) {
        made.runs.push(run);
        let seed = made.runs.last().unwrap().seed;
        made.tell(seed, &End::Auc(auc));
    }
    let comparison = report::compare(&made.store, "strong", "other/late").unwrap();
    assert_eq!((comparison.reference.as_str(), comparison.candidate.as_str()), ("made/strong", "other/late"));
    assert_eq!(comparison.paired.n, 3);
    assert!((comparison.paired.difference - 0.0173).abs() < 1e-4, "{comparison}");
    let refused = report::compare(&made.store, "strong", "elsewhere/late").unwrap_err().to_string();
    assert!(
        refused.contains("made/strong and elsewhere/late cannot be compared: they saw different images"),
        "{refused}"
    );
}

#[test]
fn the_terminal_lists_and_shows() {
    let made = two();
    let list = report::list(&made.store).unwrap().to_string();
    holds(&list, &["made  6 of 6 runs finished", "baseline      3/3  AUC 0.872 ± 0.007", "experiments/made.toml"]);
    let runs = report::runs(&made.store, "made").unwrap().to_string();
    holds(&runs, &["run               experiment", "0000000000000abc  baseline    seed 0  finished  4 of 5"]);
    assert!(report::runs(&made.store, "nothing").is_err());
    let dir = made.dir.path().join("made/runs/0000000000000abc");
    std::fs::create_dir_all(&dir).unwrap();
    let shown = report::show(&made.store, "0000000000000a").unwrap().to_string();
    holds(&shown, &["seed 0  finished", "made / baseline", "selected", "lr = 0.001", "warning: started from scratch"]);
    holds(&shown, &[&format!("files in {}", dir.display()), "1  cpu  2 threads  from epoch 0", "0.8710"]);
    assert!(report::show(&made.store, "0").unwrap_err().to_string().contains("several runs"));
}

/// Reports to look at: `REPORTS=/tmp/x cargo test --release --test report -- --ignored look`.
#[test]
#[ignore = "for the eye"]
fn look() {
    let out = PathBuf::from(std::env::var("REPORTS").unwrap());
    let grid = Made::new(&["baseline", "strong-baseline", "strong-baseline-mix"])
        .point(0, "optimizer.adam.lr=0.005", &finished(&BASE))
        .point(0, "optimizer.adam.lr=0.001", &finished(&[0.861, 0.852, 0.857]))
        .point(1, "optimizer.adam.lr=0.005", &finished(&STRONG))
        .point(1, "optimizer.adam.lr=0.001", &finished(&[0.89, 0.90, 0.88]))
        .point(2, "optimizer.adam.lr=0.005", &[End::Auc(0.915), End::Auc(0.904), End::Failed("loss is NaN at step 7")]);
    report::write(&grid.store, "made", &out.join("grid")).unwrap();
    let mut classes = Made::new(&["baseline", "strong"]);
    classes.classes = ["cat", "dog", "bird"].map(String::from).to_vec();
    let classes = classes.point(0, "", &finished(&BASE)).point(1, "", &finished(&[0.87, 0.88, 0.88]));
    report::write(&classes.store, "made", &out.join("classes")).unwrap();
    report::write(&two().store, "made", &out.join("two")).unwrap();
}
