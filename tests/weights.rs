//! Weights in and out of safetensors files: what fits loads, what does not is one clear error.

use candle_core::{DType, Tensor};
use runner::{
    backbone::{Model, Options, build, load_halves, load_weights},
    error::Cause,
    tensor::{
        Device, Key,
        safetensors::{Array, Stored, Values, write},
        weights,
    },
};
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;

fn model(name: &str, classes: usize, seed: u64) -> Model {
    model_for(224, name, classes, seed)
}

fn model_for(image_size: usize, name: &str, classes: usize, seed: u64) -> Model {
    build(name, &Options { image_size, ..Options::new(classes) }, &Device::Cpu, Key::new(seed)).unwrap()
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    let tensor = model.params.get(name).unwrap().var().to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn save(model: &Model, path: &Path) {
    write(path, &weights::arrays(&model.params).unwrap(), &BTreeMap::new()).unwrap();
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/weights.safetensors");
    let (from, to) = (model("resnet18", 2, 1), model("resnet18", 2, 2));
    from.params.get("bn1.num_batches_tracked").unwrap().var().set(&Tensor::new(7i64, &Device::Cpu).unwrap()).unwrap();
    save(&from, &path);
    assert_ne!(values(&from, "fc.weight"), values(&to, "fc.weight"));
    assert!(load_weights(&to, &path).unwrap().is_empty());
    for weight in from.params.iter() {
        assert_eq!(values(&from, weight.name()), values(&to, weight.name()), "{}", weight.name());
    }
    assert_eq!(values(&to, "bn1.num_batches_tracked"), [7.0]);
}

#[test]
fn equal_arguments_give_equal_bytes_and_no_temporary_file_stays() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let arrays = [Array::new("x", [2], vec![1.0, 2.0]), Array::new("ema:x", [2], vec![3.0, 4.0])];
    let metadata = BTreeMap::from([("k\"ey".to_owned(), "välue\n".to_owned()), ("step".to_owned(), "7".to_owned())]);
    write(&a, &arrays, &metadata).unwrap();
    write(&b, &arrays, &metadata).unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let stored = Stored::read(&a).unwrap();
    assert_eq!(stored.metadata()["k\"ey"], "välue\n");
    assert_eq!(stored.metadata()["step"], "7");
    assert_eq!(stored.values("ema:x").unwrap(), [3.0, 4.0]);
}

#[test]
fn a_checkpoint_with_sections_loads_as_weights_and_as_average() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("last.safetensors");
    let (plain, average, to) = (model("resnet18", 2, 1), model("resnet18", 2, 2), model("resnet18", 2, 3));
    let mut arrays = weights::arrays(&plain.params).unwrap();
    let named = |array: Array<'static>| Array { name: format!("ema:{}", array.name), ..array };
    arrays.extend(weights::arrays(&average.params).unwrap().into_iter().map(named));
    write(&path, &arrays, &BTreeMap::new()).unwrap();
    load_weights(&to, &path).unwrap();
    assert_eq!(values(&to, "fc.bias"), values(&plain, "fc.bias"));
    weights::load(&to.params, &Stored::read(&path).unwrap(), Some("ema"), None).unwrap();
    assert_eq!(values(&to, "fc.bias"), values(&average, "fc.bias"));
}

#[test]
fn another_class_count_keeps_the_fresh_classifier_and_says_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (from, to) = (model("efficientnet_b0", 5, 1), model("efficientnet_b0", 2, 2));
    let fresh = values(&to, "classifier.weight");
    save(&from, &path);
    let replaced = load_weights(&to, &path).unwrap();
    assert_eq!(replaced, ["classifier.weight", "classifier.bias"]);
    assert_eq!(values(&to, "classifier.weight"), fresh);
    assert_eq!(values(&to, "conv_stem.weight"), values(&from, "conv_stem.weight"));
}

#[test]
fn a_file_without_classifier_or_counters_loads() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (from, to) = (model("resnet18", 2, 1), model("resnet18", 2, 2));
    let mut arrays = weights::arrays(&from.params).unwrap();
    arrays.retain(|array| !array.name.starts_with("fc.") && !array.name.ends_with("num_batches_tracked"));
    write(&path, &arrays, &BTreeMap::new()).unwrap();
    assert_eq!(load_weights(&to, &path).unwrap(), ["fc.weight", "fc.bias"]);
    assert_eq!(values(&to, "conv1.weight"), values(&from, "conv1.weight"));
}

#[test]
fn everything_that_does_not_fit_is_reported_together_and_nothing_is_loaded() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (from, to) = (model("resnet18", 2, 1), model("resnet18", 2, 2));
    let mut arrays = weights::arrays(&from.params).unwrap();
    arrays.retain(|array| array.name != "layer1.0.conv1.weight");
    arrays.iter_mut().filter(|array| array.name == "bn1.bias").for_each(|array| {
        array.shape = vec![32];
        array.values = Values::F32(vec![0.0; 32].into());
    });
    arrays.push(Array::new("extra", [1], vec![0.0]));
    write(&path, &arrays, &BTreeMap::new()).unwrap();
    let before = values(&to, "conv1.weight");
    let error = load_weights(&to, &path).unwrap_err();
    assert_eq!(error.cause, Cause::User);
    let text = error.to_string();
    for part in [
        "weights.safetensors",
        "missing in the file: layer1.0.conv1.weight",
        "not in the model: extra",
        "other shapes: bn1.bias is [32], needed [64]",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(values(&to, "conv1.weight"), before);
}

#[test]
fn the_error_names_the_backbone_that_the_file_looks_like() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    save(&model("resnet34", 7, 1), &path);
    let text = load_weights(&model("resnet18", 2, 2), &path).unwrap_err().to_string();
    assert!(text.contains("resnet18 was asked for; the file looks like resnet34 with 7 classes"), "{text}");
}

#[test]
fn half_precision_files_are_widened() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.safetensors");
    let numbers = Tensor::new(&[0.5f32, -1.25, 3.0], &Device::Cpu).unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let tensors = std::collections::HashMap::from([("x", numbers.to_dtype(dtype).unwrap())]);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        assert_eq!(Stored::read(&path).unwrap().values("x").unwrap(), [0.5, -1.25, 3.0], "{dtype:?}");
    }
}

#[test]
fn cut_off_files_are_clean_errors() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(&path, &[Array::new("x", [64], vec![1.0; 64])], &BTreeMap::new()).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(13) {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(Stored::read(&path).unwrap_err().cause, Cause::User, "cut to {length} bytes");
    }
}

#[test]
fn flipped_bits_are_clean_errors() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let metadata = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
    write(&path, &[Array::new("x", [16], vec![1.0; 16])], &metadata).unwrap();
    let whole = fs::read(&path).unwrap();
    let key = whole.windows(13).position(|window| window == b"runner.sha256").unwrap();
    // A flip in the key of the checksum makes it an unknown entry: the file then counts as another program's.
    for at in (0..whole.len()).filter(|at| !(key..key + 13).contains(at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        let error = Stored::read(&path).expect_err(&format!("byte {at}"));
        assert_eq!(error.cause, Cause::User, "byte {at}: {error}");
    }
}

#[test]
fn other_kinds_of_files_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.pth");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Stored::read(&path).unwrap_err().to_string()
    };
    assert!(read(b"").contains("is empty"));
    assert!(read(b"PK\x03\x04rest of a zip").contains("PyTorch pickle"));
    assert!(read(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
    assert!(Stored::read(&folder.path().join("none")).unwrap_err().to_string().contains("there is no file"));
}

#[test]
fn positions_of_another_image_size_are_resampled() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let name = "vit_tiny_patch16_224";
    let (from, to) = (model_for(32, name, 2, 1), model_for(48, name, 2, 2));
    save(&from, &path);
    assert!(load_weights(&to, &path).unwrap().is_empty());
    let (small, large) = (values(&from, "pos_embed"), values(&to, "pos_embed"));
    assert_eq!((small.len(), large.len()), (5 * 192, 10 * 192));
    assert_eq!(small[..192], large[..192], "the class token stays");
    // From 2 to 3 the middle sees all four alike.
    let means = (0..192).map(|c| (1..5).map(|token| small[token * 192 + c]).sum::<f32>() / 4.0);
    assert!(means.zip(&large[5 * 192..]).all(|(mean, middle)| (mean - middle).abs() < 1e-6));
    assert_eq!(values(&from, "blocks.11.mlp.fc2.weight"), values(&to, "blocks.11.mlp.fc2.weight"));
    let error = load_weights(&model_for(32, "vit_small_patch16_224", 2, 2), &path).unwrap_err();
    assert!(error.to_string().contains("the file looks like vit_tiny_patch16_224 with 2 classes"), "{error}");
}

#[test]
fn each_half_of_a_hybrid_has_its_own_pretrained_weights() {
    let folder = TempDir::new().unwrap();
    let paths = ["cnn", "vit"].map(|name| folder.path().join(name));
    let (cnn, vit) = (model("resnet18", 10, 1), model("vit_tiny_patch16_224", 10, 2));
    save(&cnn, &paths[0]);
    save(&vit, &paths[1]);
    let hybrid = model_for(64, "resnet18@3+vit_tiny_patch16_224", 2, 3);
    assert_eq!(
        hybrid.architecture.pretrained_names(),
        ["resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"]
    );
    let own = values(&hybrid, "patch_embed.proj.weight");
    assert_eq!(load_halves(&hybrid, &paths).unwrap(), ["head.weight", "head.bias"]);
    let same =
        |ours: &str, model: &Model, theirs: &str| assert_eq!(values(&hybrid, ours), values(model, theirs), "{ours}");
    same("patch_embed.backbone.layer3.1.conv2.weight", &cnn, "layer3.1.conv2.weight");
    same("blocks.11.norm2.weight", &vit, "blocks.11.norm2.weight");
    same("cls_token", &vit, "cls_token");
    assert_eq!(values(&hybrid, "patch_embed.proj.weight"), own);
    assert!(hybrid.params.get("patch_embed.backbone.layer4.0.conv1.weight").is_none());
    // What was saved as one is loaded as one.
    let (path, again) = (folder.path().join("hybrid"), model_for(64, "resnet18@3+vit_tiny_patch16_224", 2, 4));
    save(&hybrid, &path);
    assert!(load_weights(&again, &path).unwrap().is_empty());
    assert_eq!(values(&again, "patch_embed.proj.weight"), own);
    let error = load_halves(&hybrid, &[paths[1].clone(), paths[1].clone()]).unwrap_err();
    assert!(error.cause == Cause::User && error.to_string().contains("missing in the file: conv1.weight"), "{error}");
}
