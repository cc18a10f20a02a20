//! Experiment files: every shipped one plans, every wrong one fails with its message, and layers merge as documented.

use runner::{
    augment::AugmentSpec,
    backbone::BACKBONES,
    data::DataSpec,
    loss::LossSpec,
    metric::METRICS,
    optim::OptimizerSpec,
    schedule::ScheduleSpec,
    spec::{ExperimentFile, RunSpec},
    sweep::{self, PlannedRun, identity},
    synthesize::SynthesizerSpec,
};
use std::path::{Path, PathBuf};

/// A file's path and the error of loading it.
fn message(path: &Path) -> String {
    match ExperimentFile::load(path, &[]) {
        Ok(_) => format!("{} loads", path.display()),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{} is the user's mistake", path.display());
            neutral(error.to_string())
        }
    }
}

/// The message without what changes from one machine to the next, and with every new component.
fn neutral(message: String) -> String {
    let here = std::env::current_dir().expect("a working directory");
    let backbones = BACKBONES.iter().map(|entry| entry.name).collect::<Vec<_>>();
    let metrics = METRICS.iter().map(|metric| metric.name).chain(["loss"]).collect::<Vec<_>>();
    let lists = [
        (AugmentSpec::NAMES, "<augmentations>"),
        (OptimizerSpec::NAMES, "<optimizers>"),
        (ScheduleSpec::NAMES, "<schedulers>"),
        (LossSpec::NAMES, "<losses>"),
        (DataSpec::NAMES, "<data sources>"),
        (SynthesizerSpec::NAMES, "<synthesizers>"),
        (&backbones, "<backbones>"),
        (&metrics, "<metrics>"),
    ];
    let message = message.replace(&here.display().to_string(), "<here>");
    // Long lists are broken into lines, which start with more spaces than anything else.
    let mut flat = String::new();
    for line in message.lines() {
        match line.strip_prefix("    ") {
            Some(more) => flat.extend([" ", more.trim_start()]),
            None => flat.extend(["\n", line]),
        }
    }
    for (names, mark) in lists.iter().filter(|(names, _)| names.len() > 1) {
        flat = flat.replace(&names.join(", "), mark);
    }
    flat.trim_start().to_string()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect(folder);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

#[test]
fn every_wrong_file_says_what_is_wrong() {
    let files = files("tests/bad");
    assert!(files.len() >= 40, "only {} wrong files", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("bad");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in files {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            insta::assert_snapshot!(name, message(&path));
        }
    });
}

/// Loads a text as an experiment file.
fn load(text: &str, assignments: &[&str]) -> Result<ExperimentFile, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file.toml");
    std::fs::write(&path, text).expect("a file");
    let assignments: Vec<String> = assignments.iter().map(ToString::to_string).collect();
    ExperimentFile::load(&path, &assignments).map_err(|error| error.to_string())
}

const BASE: &str = "[data.synthetic]\n[defaults]\noptimizer.adam = { lr = 0.01, eps = 1e-7 }\n\
    augment = [{ random_horizontal_flip = { p = 0.25 } }]\nwarmup = { length = 1 }\n\
    [[experiment]]\nname = \"a\"\n";

fn with(more: &str) -> String {
    format!("{BASE}{more}")
}

/// The specification of one experiment, as TOML.
fn spec(file: &ExperimentFile, name: &str) -> toml::Value {
    let experiment = file.experiments.iter().find(|experiment| experiment.name == name).expect(name);
    toml::Value::try_from(&experiment.spec).expect("a specification is TOML")
}

fn origin<'a>(file: &'a ExperimentFile, name: &str, path: &str) -> &'a str {
    let experiment = file.experiments.iter().find(|experiment| experiment.name == name).expect(name);
    &experiment.origins.iter().find(|origin| origin.path == path).expect(path).from
}

#[test]
fn tables_merge_key_by_key() {
    let file =
        load(&with("[[experiment]]\nname = \"b\"\noptimizer.adam.lr = 0.5\ninput.size = 64\n"), &[]).expect("loads");
    let adam = &spec(&file, "b")["optimizer"]["adam"];
    assert_eq!((adam["lr"].as_float(), adam["eps"].as_float()), (Some(0.5), Some(1e-7)));
    assert_eq!(
        spec(&file, "a")["optimizer"]["adam"]["lr"].as_float(),
        Some(0.01),
        "the other experiment keeps its own"
    );
    assert_eq!(spec(&file, "b")["input"]["size"].as_integer(), Some(64));
}

#[test]
fn another_component_replaces_the_old_one_whole() {
    let file = load(&with("[[experiment]]\nname = \"b\"\noptimizer.sgd.lr = 0.5\n"), &[]).expect("loads");
    let optimizer = &spec(&file, "b")["optimizer"];
    assert!(optimizer.get("adam").is_none() && optimizer["sgd"]["lr"].as_float() == Some(0.5));
}

#[test]
fn lists_replace_and_append_appends() {
    let more = "[[experiment]]\nname = \"b\"\naugment = []\n\
        [[experiment]]\nname = \"c\"\naugment.append = [{ random_vertical_flip = {} }]\n\
        [[experiment]]\nname = \"d\"\nextends = \"c\"\naugment.append = [{ color_jitter = {} }]\n";
    let file = load(&with(more), &[]).expect("loads");
    let names = |name: &str| -> Vec<String> {
        let list = spec(&file, name)["augment"].as_array().expect("a list").clone();
        list.iter().filter_map(|entry| entry.as_table()?.keys().next().cloned()).collect()
    };
    assert!(names("b").is_empty());
    assert_eq!(names("c"), ["random_horizontal_flip", "random_vertical_flip"]);
    assert_eq!(names("d"), ["random_horizontal_flip", "random_vertical_flip", "color_jitter"]);
}

#[test]
fn the_name_of_an_entry_changes_it() {
    let more = "[[experiment]]\nname = \"b\"\naugment.random_horizontal_flip.p = 0.75\n\
        [sweep]\ngrid.\"augment.random_horizontal_flip.p\" = [0.1, 0.9]\n";
    let file = load(&with(more), &[]).expect("loads");
    let p = |spec: &toml::Value| spec["augment"][0]["random_horizontal_flip"]["p"].as_float();
    assert_eq!((p(&spec(&file, "a")), p(&spec(&file, "b"))), (Some(0.25), Some(0.75)));
    let points = &file.experiments[1].points;
    let points: Vec<_> = points.iter().map(|point| p(&toml::Value::try_from(&point.spec).expect("TOML"))).collect();
    assert_eq!(points, [Some(0.1), Some(0.9)]);
}

#[test]
fn false_takes_an_optional_key_away() {
    let file = load(&with("[[experiment]]\nname = \"b\"\nwarmup = false\n"), &[]).expect("loads");
    assert!(spec(&file, "a").get("warmup").is_some());
    assert!(spec(&file, "b").get("warmup").is_none());
}

#[test]
fn extends_follows_a_chain_in_any_order() {
    let more = "[[experiment]]\nname = \"c\"\nextends = \"b\"\nepochs = 7\n\
        [[experiment]]\nname = \"b\"\nextends = \"a\"\nepochs = 5\nbatch_size = 8\n";
    let file = load(&with(more), &[]).expect("loads");
    let c = spec(&file, "c");
    assert_eq!((c["epochs"].as_integer(), c["batch_size"].as_integer()), (Some(7), Some(8)));
    assert_eq!(origin(&file, "c", "epochs"), "experiment, line 11");
    assert_eq!(origin(&file, "c", "batch_size"), "extends b, line 16");
    assert_eq!(origin(&file, "c", "optimizer.adam.lr"), "defaults, line 3");
    assert_eq!(origin(&file, "c", "optimizer.adam.weight_decay"), "default");
    assert_eq!(origin(&file, "c", "input.mean"), "the backbone's pretrained configuration");
}

#[test]
fn the_normalization_follows_the_backbone_unless_given() {
    let more = "[[experiment]]\nname = \"b\"\ninput.mean = [0.5, 0.5, 0.5]\n";
    let file = load(&with(more), &[]).expect("loads");
    let mean =
        |name: &str| spec(&file, name)["input"]["mean"].as_array().expect("mean")[0].as_float().expect("a number");
    assert!((mean("a") - 0.485).abs() < 1e-6);
    assert!((mean("b") - 0.5).abs() < 1e-6);
}

#[test]
fn set_lies_on_every_experiment() {
    let more = "[[experiment]]\nname = \"b\"\nepochs = 5\n[sweep]\nseeds = [0, 1]\n";
    let sets = ["epochs=3", "backbone.name=resnet34", "optimizer.sgd={lr = 0.1}", "sweep.seeds=[7]"];
    let file = load(&with(more), &sets).expect("loads");
    for name in ["a", "b"] {
        let spec = spec(&file, name);
        assert_eq!(spec["epochs"].as_integer(), Some(3));
        assert_eq!(spec["backbone"]["name"].as_str(), Some("resnet34"));
        assert_eq!(spec["optimizer"]["sgd"]["lr"].as_float(), Some(0.1));
        assert_eq!(origin(&file, name, "epochs"), "--set");
        assert_eq!(origin(&file, name, "backbone.name"), "--set");
    }
    assert_eq!(file.experiments[0].points[0].seeds, [7]);
}

#[test]
fn wrong_assignments_are_shown() {
    let error = |set: &str| load(BASE, &[set]).expect_err(set);
    insta::assert_snapshot!("set_unknown_key", error("optimzer.adam.lr=0.1"));
    insta::assert_snapshot!("set_wrong_type", error("epochs=many"));
    insta::assert_snapshot!("set_without_value", error("epochs"));
    insta::assert_snapshot!("set_broken_value", error("augment=[{ random_horizontal_flip = {} }"));
    insta::assert_snapshot!("set_unknown_backbone", error("backbone.name=resnet19"));
    let swept = load(&with("[sweep]\ngrid = { epochs = [2, 3] }\n"), &["epochs=4"]).expect_err("swept");
    insta::assert_snapshot!("set_what_is_swept", swept);
}

#[test]
fn a_missing_file_names_the_nearest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("quickstart.toml"), BASE).expect("a file");
    let error = ExperimentFile::load(&folder.path().join("quikstart.toml"), &[]).expect_err("missing").to_string();
    assert!(error.contains("there is no file") && error.contains("quickstart.toml?"), "{error}");
}

#[test]
fn points_are_the_product_with_the_first_key_slowest() {
    let more = "[sweep]\nseeds = 2\ngrid = { \"optimizer.adam.lr\" = [0.1, 0.2], batch_size = [8, 16] }\n\
        zip = { epochs = [2, 3], \"input.size\" = [32, 64] }\n";
    let file = load(&with(more), &[]).expect("loads");
    let points = &file.experiments[0].points;
    let text = |index: usize| {
        let point: Vec<String> =
            points[index].assignments.iter().map(|(path, value)| format!("{path}={value}")).collect();
        point.join(" ")
    };
    assert_eq!(points.len(), 8);
    assert_eq!(text(0), "optimizer.adam.lr=0.1 batch_size=8 epochs=2 input.size=32");
    assert_eq!(text(1), "optimizer.adam.lr=0.1 batch_size=8 epochs=3 input.size=64");
    assert_eq!(text(2), "optimizer.adam.lr=0.1 batch_size=16 epochs=2 input.size=32");
    assert_eq!(text(7), "optimizer.adam.lr=0.2 batch_size=16 epochs=3 input.size=64");
    assert_eq!((points[7].spec.epochs, points[7].spec.input.size, points[7].spec.batch_size), (3, 64, 16));
    assert!(points.iter().all(|point| point.seeds == [0, 1]));
}

#[test]
fn blocks_are_for_their_experiments() {
    let more = "[[experiment]]\nname = \"b\"\n[sweep]\nseeds = [0, 1]\n\
        [[sweep.block]]\nfor = [\"a\"]\nseeds = [5]\ngrid.optimizer.adam.lr = [0.1, 0.2]\n";
    let file = load(&with(more), &[]).expect("loads");
    let [a, b] = &file.experiments[..] else { panic!("two experiments") };
    assert_eq!(a.points.iter().map(|point| point.seeds.clone()).collect::<Vec<_>>(), [[5], [5]]);
    assert_eq!(b.points.len(), 1);
    assert_eq!((b.points[0].assignments.len(), &b.points[0].seeds[..]), (0, &[0, 1][..]));
}

#[test]
fn a_sweep_can_replace_a_component_and_a_list() {
    let more = "[sweep]\ngrid = { optimizer = [{ adam = {} }, { sgd = { lr = 0.1 } }], augment = [[], [{ random_horizontal_flip = {} }]] }\n";
    let file = load(&with(more), &[]).expect("loads");
    let points = &file.experiments[0].points;
    assert_eq!(points.len(), 4);
    assert_eq!(points[2].spec.optimizer.name(), "sgd");
    let called: Vec<&str> = points.iter().map(|point| point.assignments[0].1.as_str()).collect();
    assert_eq!(called, ["adam", "adam", "{ sgd = { lr = 0.1 } }", "{ sgd = { lr = 0.1 } }"]);
    assert_eq!(points.iter().map(|point| point.spec.augment.len()).collect::<Vec<_>>(), [0, 1, 0, 1]);
}

#[test]
fn an_axis_makes_right_what_the_experiment_alone_is_not() {
    let more = "warmup = { length = 5 }\nepochs = 3\n[sweep]\ngrid = { epochs = [10, 20] }\n";
    load(&with(more), &[]).expect("every point is right");
}

#[test]
fn a_hybrid_and_a_name_replace_each_other_from_layer_to_layer() {
    let hybrid = "backbone.hybrid = { cnn = \"resnet18.a3_in1k\", stage = 3, vit = \"vit_tiny_patch16_224\" }\n";
    let more =
        format!("{hybrid}[[experiment]]\nname = \"b\"\nextends = \"a\"\nbackbone.name = \"vit_tiny_patch16_224\"\n");
    let file =
        load(&with(&more).replace("[defaults]", "[defaults]\nbackbone.name = \"resnet34\""), &[]).expect("loads");
    let (a, b) = (spec(&file, "a"), spec(&file, "b"));
    assert_eq!(a["backbone"]["name"].as_str(), Some("resnet18.a3_in1k@3+vit_tiny_patch16_224"));
    assert_eq!(
        a["input"]["std"][0].as_float().map(|std| (std * 1e3).round()),
        Some(229.0),
        "of the CNN, which sees the pixels"
    );
    assert_eq!(b["backbone"]["name"].as_str(), Some("vit_tiny_patch16_224"));
    assert!(b["backbone"].get("hybrid").is_none());
    assert_eq!(b["input"]["std"][0].as_float(), Some(0.5));
}

fn plan(file: &ExperimentFile) -> Vec<PlannedRun> {
    sweep::plan(file, &|_| Ok("fingerprint".into())).expect("plans")
}

#[test]
fn runs_are_ordered_and_named() {
    let more = "[[experiment]]\nname = \"b\"\n[sweep]\nseeds = [3, 1]\n";
    let file = load(&with(more), &[]).expect("loads");
    let runs = plan(&file);
    let order: Vec<_> = runs.iter().map(|run| (run.experiment.as_str(), run.seed)).collect();
    assert_eq!(order, [("a", 3), ("a", 1), ("b", 3), ("b", 1)]);
    assert_eq!(runs[0].id, runs[2].id, "the same specification is the same run, whatever the experiment is called");
    assert_ne!(runs[0].id, runs[1].id, "another seed is another run");
    assert!(runs.iter().all(|run| run.id.len() == 16 && run.id.chars().all(|c| c.is_ascii_hexdigit())));
}

#[test]
fn folds_make_runs_of_one_point() {
    let file = load(&with("[sweep]\nfolds = 3\nseeds = 2\n"), &[]).expect("loads");
    let runs = plan(&file);
    let order: Vec<_> = runs.iter().map(|run| (run.fold().expect("a fold"), run.seed)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    assert!(runs.iter().all(|run| run.point.is_empty()), "folds are no points to choose from");
    let ids: std::collections::BTreeSet<_> = runs.iter().map(|run| &run.id).collect();
    assert_eq!(ids.len(), 6);
    let other = plan(&load(&with("[sweep]\nfolds = 4\nseeds = 2\n"), &[]).expect("loads"));
    assert!(other.iter().all(|run| !ids.contains(&run.id)), "a fold of four is no fold of three");
    let written = plan(&load(&with("fold = { index = 1, of = 3 }\n"), &[]).expect("loads"));
    assert_eq!(written[0].id, runs[2].id, "a fold that is written out is the same run");
    assert_eq!(plan(&load(BASE, &["sweep.folds=3"]).expect("loads")).len(), 3);
}

#[test]
fn what_changes_no_number_changes_no_id() {
    let id = |sets: &[&str]| plan(&load(BASE, sets).expect("loads"))[0].id.clone();
    let base = id(&[]);
    for same in ["log_every=7", "keep=all", "optimizer.adam.weight_decay=0", "data.synthetic.train=999"] {
        assert_eq!(id(&[same]), base, "{same}");
    }
    for other in ["epochs=11", "optimizer.adam.lr=0.02", "select.metric=loss", "backbone.name=resnet34", "augment=[]"] {
        assert_ne!(id(&[other]), base, "{other}");
    }
}

#[test]
fn an_id_stays_what_it_was() {
    let spec = toml::from_str::<RunSpec>(
        "data.synthetic = {}\nepochs = 3\nbatch_size = 16\noptimizer.adam = { lr = 0.01, betas = [0.9, 0.999], eps = 1e-8, weight_decay = 0 }\n\
         input = { size = 64, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }\nprecision = \"f32\"\n",
    );
    let id = identity(&spec.expect("a specification"), "0123456789abcdef", 1).expect("an id");
    // Changing what enters an id makes every run of every user run again: do it on purpose only.
    assert_eq!(id, "911f4b37e63ac6a8");
}

/// Real-looking data for the shipped files: a flat grey PNG is an image like any other.
fn image(path: &Path) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    image::RgbImage::from_pixel(8, 8, image::Rgb([128; 3])).save(path).expect("an image");
}

/// FFDI's layout with two images of each class and split.
fn ffdi(root: &Path) {
    for (images, labels) in [("trainset", "trainset_label.txt"), ("valset", "valset_label.txt")] {
        let mut text = String::from("img_name,target\n");
        for index in 0..4 {
            image(&root.join(images).join(format!("{index}.png")));
            text.push_str(&format!("{index}.png,{}\n", index % 2));
        }
        std::fs::write(root.join(labels), text).expect("labels");
    }
}

fn folder(root: &Path) {
    for class in ["cats", "dogs"] {
        (0..10).for_each(|index| image(&root.join(class).join(format!("{index}.png"))));
    }
}

#[test]
fn every_shipped_file_plans() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| data.path().join(name);
    ffdi(&at("ffdi"));
    folder(&at("folder"));
    for path in files("experiments") {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let sets = match stem.as_str() {
            "ffdi" | "competition" => vec![format!("data.ffdi.root={}", at("ffdi").display())],
            "folder" => vec![format!("data.folder.root={}", at("folder").display())],
            _ => Vec::new(),
        };
        let file = ExperimentFile::load(&path, &sets).unwrap_or_else(|error| panic!("{}", error));
        assert_eq!(file.name, stem);
        let runs = plan(&file);
        let ids: std::collections::BTreeSet<_> = runs.iter().map(|run| &run.id).collect();
        assert_eq!(ids.len(), runs.len(), "{stem}: every run is one of its own");
        assert!(runs.len() >= 8, "{stem} has {} runs", runs.len());
    }
}

#[test]
fn the_competition_file_is_what_it_should_be() {
    let data = tempfile::tempdir().expect("a temporary folder");
    ffdi(data.path());
    let set = format!("data.ffdi.root={}", data.path().display());
    let file =
        ExperimentFile::load(Path::new("experiments/ffdi.toml"), &[set]).unwrap_or_else(|error| panic!("{error}"));
    let strong = spec(&file, "strong-baseline");
    assert_eq!(strong["backbone"]["name"].as_str(), Some("efficientnet_b1.ft_in1k"));
    assert_eq!(strong["backbone"]["pretrained"].as_bool(), Some(true), "kept from the defaults");
    assert_eq!(strong["optimizer"]["adam"]["lr"].as_float(), Some(0.007));
    assert_eq!(spec(&file, "strong-baseline-mix")["augment"].as_array().map(Vec::len), Some(4));
    assert_eq!(spec(&file, "baseline")["augment"].as_array().map(Vec::len), Some(2));
    assert_eq!(origin(&file, "strong-baseline-mix", "optimizer.adam.lr"), "extends strong-baseline, line 28");
    assert_eq!(origin(&file, "baseline", "data.ffdi.root"), "--set");
}

#[test]
fn only_cuda_has_other_precisions() {
    let mut file = load(&with("precision = \"bf16\"\n"), &[]).expect("loads");
    let error = file.resolve_precision(false).expect_err("the CPU has f32 only").to_string();
    assert!(error.contains("experiment, line 8") && error.contains("needs a CUDA device"), "{error}");
    file.resolve_precision(true).expect("CUDA has it");
    let mut file = load(BASE, &[]).expect("loads");
    file.resolve_precision(false).expect("auto is f32");
    assert_eq!(spec(&file, "a")["precision"].as_str(), Some("f32"));
}
