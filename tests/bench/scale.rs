//! What many runs cost beside their training: `cargo bench --bench scale`, or one part of it by name, for example
//! `cargo bench --bench scale -- overhead 1000`. It prints figures and holds nobody to them.
//!
//! - `overhead RUNS`: a sweep of tiny runs, two at once, against the same training in two threads of one process.
//! - `plan RUNS`: the list of all runs, before there are results and beside a store that knows every one.
//! - `ingest ROWS`: journals into a store, from their text.

use runner::{
    data::{self, Dataset, Decode},
    event::{Event, Prediction, Record, Split, Values},
    spec::ExperimentFile,
    store::{NewRun, NewSweep, Store},
    sweep::{self, PlannedRun},
    train::{self, Job},
};
use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FILE: &str = r#"
name = "scale"

[data.synthetic]
train = 8
val = 8
size = 16

[defaults]
epochs = 1
batch_size = 8
input = { size = 16, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }
backbone = { name = "mobilenetv3_small_100" }
optimizer.sgd = { lr = 0.01 }
augment = []
select = { metric = "accuracy", mode = "max" }

[[experiment]]
name = "baseline"

[sweep]
"#;

fn main() {
    // SAFETY: no other thread exists yet. Runs compute in pools of their own, as in the program.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let count = |usual: usize| arguments.get(1).map_or(usual, |count| count.parse().expect("a number"));
    match arguments.first().map(String::as_str) {
        None => {
            overhead(1000);
            plan(10_000);
            ingest(1_000_000);
        }
        Some("overhead") => overhead(count(1000)),
        Some("plan") => plan(count(10_000)),
        Some("ingest") => ingest(count(1_000_000)),
        Some(other) => panic!("unknown part `{other}`; known are overhead, plan, ingest"),
    }
}

/// Writes `scale.toml` into a new folder.
fn folder(sweep: &str) -> tempfile::TempDir {
    // Not in memory: syncs count.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(folder.path().join("scale.toml"), format!("{FILE}{sweep}")).unwrap();
    folder
}

fn numbers(count: usize) -> String {
    (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
}

fn runner(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.current_dir(folder).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn timed(folder: &Path, arguments: &[&str]) -> f64 {
    let start = Instant::now();
    assert!(runner(folder, arguments).wait().unwrap().success(), "{arguments:?}");
    start.elapsed().as_secs_f64()
}

fn runs(folder: &Path) -> Vec<PlannedRun> {
    let mut file = ExperimentFile::load(&folder.join("scale.toml"), &[]).unwrap();
    file.resolve_precision(false).unwrap();
    sweep::plan(&file, &|spec| data::fingerprint(&spec.data, &folder.join("results/cache"))).unwrap()
}

fn overhead(count: usize) {
    let folder = folder(&format!("seeds = [{}]", numbers(count)));
    let plan = runs(folder.path());
    let (spec, cache) = (&plan[0].spec, folder.path().join("results/cache"));
    let settings = Decode { size: spec.input.loaded(), interpolation: spec.input.interpolation };
    let data = data::open(&spec.data, settings, &cache, &|_| ()).unwrap();

    let (start, before) = (Instant::now(), cpu(libc::RUSAGE_SELF));
    std::thread::scope(|scope| {
        for half in plan.chunks(count.div_ceil(2)) {
            let (data, alone) = (&data, folder.path().join("alone"));
            scope.spawn(move || half.iter().for_each(|run| train_alone(run, data, &alone.join(&run.id))));
        }
    });
    let (training, training_cpu) = (start.elapsed().as_secs_f64(), cpu(libc::RUSAGE_SELF) - before);

    let (start, before) = (Instant::now(), cpu(libc::RUSAGE_CHILDREN));
    let sizes = watch(runner(folder.path(), &["sweep", "scale.toml", "--jobs", "2", "--device", "cpu"]));
    let (sweep, sweep_cpu) = (start.elapsed().as_secs_f64(), cpu(libc::RUSAGE_CHILDREN) - before);

    let each = |seconds: f64| seconds * 1000.0 / count as f64;
    println!("{count} runs, two at once, in ms for each run:");
    println!("  training alone  {:6.1} of a slot, {:6.1} of processor time", 2.0 * each(training), each(training_cpu));
    println!("  as a sweep      {:6.1} of a slot, {:6.1} of processor time", 2.0 * each(sweep), each(sweep_cpu));
    let (slot, cpu) = (2.0 * each(sweep - training), each(sweep_cpu - training_cpu));
    println!("  overhead        {slot:6.1} of a slot, {cpu:6.1} of processor time");
    let at = |share: f64| sizes.get((sizes.len() as f64 * share) as usize).copied().unwrap_or(0) >> 20;
    println!(
        "  memory of the coordinator in MB: {} after a quarter, {} after half, {} at nine tenths of the time",
        at(0.25),
        at(0.5),
        at(0.9)
    );
}

fn train_alone(run: &PlannedRun, data: &Dataset, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let job = Job {
        spec: &run.spec,
        seed: run.seed,
        data,
        device: candle_core::Device::Cpu,
        dir,
        until: None,
        threads: 1,
        attempt: 1,
        micro_batch: None,
    };
    // A pool of its own, which costs next to nothing.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| train::run(&job, &mut |_| Ok(()), &AtomicBool::new(false))).unwrap();
}

/// Waits for a sweep and returns what its coordinator had resident meanwhile, in bytes.
fn watch(mut child: Child) -> Vec<u64> {
    let mut sizes = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        sizes.extend(kilobytes.map(|kilobytes| kilobytes << 10));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.wait().unwrap().success());
    sizes
}

/// Processor time so far, in seconds.
fn cpu(whose: libc::c_int) -> f64 {
    // SAFETY: `rusage` is plain data for which zeros are valid, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn plan(count: usize) {
    let rates: Vec<String> = (1..=count.div_ceil(100)).map(|step| format!("{:.6}", step as f64 * 1e-5)).collect();
    let sweep = format!(
        "seeds = [{}]\ngrid = {{ \"optimizer.sgd.lr\" = [{}], \"optimizer.sgd.momentum\" = [{}] }}",
        numbers(10),
        rates.join(", "),
        (0..10).map(|step| format!("{:.1}", step as f64 * 0.1)).collect::<Vec<_>>().join(", "),
    );
    let folder = folder(&sweep);
    let fresh = timed(folder.path(), &["plan", "scale.toml", "--brief"]);
    let plan = runs(folder.path());
    remember(&mut Store::open(&folder.path().join("results/runner.sqlite")).unwrap(), &plan);
    let known = timed(folder.path(), &["plan", "scale.toml", "--brief"]);
    println!(
        "plan of {} runs: {fresh:.2} s before there are results, {known:.2} s beside a store with all of them",
        plan.len()
    );
}

fn remember(store: &mut Store, plan: &[PlannedRun]) {
    let run = |run: &PlannedRun| NewRun {
        id: run.id.clone(),
        experiment: run.experiment.clone(),
        point: run.point.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(", "),
        seed: run.seed,
        fold: None,
        spec: toml::to_string(&run.spec).unwrap(),
        data: String::new(),
    };
    let runs: Vec<NewRun> = plan.iter().map(run).collect();
    let experiments = [("baseline".to_string(), toml::to_string(&plan[0].spec).unwrap())];
    store
        .add_sweep(&NewSweep {
            name: "scale",
            file: "",
            path: "",
            partial: false,
            experiments: &experiments,
            runs: &runs,
        })
        .unwrap();
}

fn ingest(rows: usize) {
    let (count, steps) = (100, rows.div_ceil(200));
    let folder = folder(&format!("seeds = [{}]", numbers(count)));
    for run in runs(folder.path()) {
        let dir = folder.path().join("results/scale/runs").join(&run.id);
        fs::create_dir_all(&dir).unwrap();
        journal(&dir.join("journal.jsonl"), steps as u64).unwrap();
    }
    let seconds = timed(folder.path(), &["sweep", "scale.toml", "--device", "cpu"]);
    let store = Store::read(&folder.path().join("results/runner.sqlite")).unwrap();
    let (finished, bytes) = (store.sweep("scale").unwrap().finished, fs::metadata(store.path()).unwrap().len());
    assert_eq!(finished, count);
    println!(
        "ingest of {} rows from {count} journals, and the report: {seconds:.2} s; the store has {} MB",
        steps * 200,
        bytes >> 20
    );
}

/// A finished run of one epoch with two values a step.
fn journal(path: &Path, steps: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    let mut time = 1.7e9;
    let mut write = |event: Event| {
        time += 0.01;
        writeln!(file, "{}", serde_json::to_string(&Record { time, attempt: 1, event }).unwrap())
    };
    let (device, parameters) = ("cpu".to_string(), 1000);
    write(Event::Started { attempt: 1, device, threads: 1, epoch: 0, epochs: 1, steps_per_epoch: steps, parameters })?;
    for step in 1..=steps {
        let values = Values::from([("loss".into(), 1.0 / step as f64), ("lr".into(), 0.01)]);
        write(Event::Step { epoch: 1, step, values })?;
    }
    let values = Values::from([("accuracy".into(), 0.5), ("loss".into(), 0.7)]);
    write(Event::Epoch { epoch: 1, split: Split::Train, values: values.clone() })?;
    write(Event::Epoch { epoch: 1, split: Split::Val, values: values.clone() })?;
    let row =
        |image: usize| Prediction { image: format!("{image}.jpg"), target: image as u32 % 2, scores: vec![0.4, 0.6] };
    let classes = vec!["real".into(), "fake".into()];
    write(Event::Predictions { epoch: 1, split: Split::Val, classes, rows: (0..8).map(row).collect() })?;
    write(Event::Finished { best_epoch: 1, summary: values })
}
