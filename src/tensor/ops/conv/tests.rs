//! The fast paths, at every instruction set of this machine, against the matrix product.

use super::{Path, geometry::Geometry};
use crate::tensor::ops::Window;
use proptest::prelude::*;
use pulp::Arch;

/// The instruction sets this machine has.
fn levels() -> Vec<Arch> {
    let mut levels = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(pulp::x86::V3::try_new().map(Arch::V3));
        levels.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    if levels.len() == 1 {
        levels.push(Arch::new());
    }
    levels
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Output, input gradient and weight gradient.
fn all(path: Path, arch: Arch, g: &Geometry) -> [Vec<f32>; 3] {
    let x = numbers(g.batch * g.input_image(), 1);
    let weight = numbers(g.outputs * g.group_inputs() * g.taps(), 2);
    let dy = numbers(g.batch * g.output_pixels() * g.outputs, 3);
    [
        path.forward(arch, g, &x, &weight),
        path.input_gradient(arch, g, &dy, &weight),
        path.weight_gradient(arch, g, &x, &dy),
    ]
}

/// The fast path of a convolution, which is not the portable one even without vectors.
fn fast(g: &Geometry) -> Path {
    match Path::of(Arch::Scalar, g) {
        Path::Portable => Path::Direct,
        path => path,
    }
}

fn compare(g: &Geometry) {
    let wanted = all(Path::Portable, Arch::Scalar, g);
    for arch in levels() {
        let got = all(fast(g), arch, g);
        for (what, (got, wanted)) in ["output", "input gradient", "weight gradient"].iter().zip(got.iter().zip(&wanted))
        {
            assert_eq!(got.len(), wanted.len());
            let squares: f32 = wanted.iter().map(|value| value * value).sum();
            let tolerance = 1e-4 * (squares / wanted.len() as f32).sqrt() + 1e-6;
            for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                // Not `>`: what was never written is NaN.
                assert!((got - wanted).abs() <= tolerance, "{what} {at}: {got}, not {wanted}; {arch:?} {g:?}");
            }
        }
    }
}

fn geometry(x: [usize; 4], outputs: usize, groups: usize, window: Window) -> Geometry {
    let weight = [outputs, x[3] / groups, window.kernel[0], window.kernel[1]];
    Geometry::new(&x, &weight, window, groups).unwrap()
}

/// Shapes that take every branch: panels of one and two vectors and of a part, tiles along columns, rows and images,
/// weights heavier than the images and lighter, several blocks of images.
fn shapes() -> Vec<Geometry> {
    let square = Window::square;
    vec![
        geometry([1, 16, 16, 8], 40, 1, square(3, 1, 1)),
        geometry([5, 2, 2, 64], 72, 1, square(3, 1, 1)),
        geometry([33, 2, 3, 20], 17, 1, square(3, 2, 1)),
        geometry([2, 40, 36, 3], 24, 1, square(7, 2, 3)),
        geometry([3, 35, 33, 16], 96, 1, square(1, 1, 0)),
        geometry([2, 7, 9, 512], 33, 1, square(1, 2, 0)),
        geometry([2, 9, 9, 256], 16, 1, square(3, 1, 1)),
        geometry([2, 32, 32, 3], 48, 1, square(16, 16, 0)),
        geometry([2, 13, 11, 6], 12, 1, Window { dilation: [2, 3], stride: [1, 2], ..square(3, 1, 2) }),
        geometry([2, 11, 12, 24], 36, 3, square(3, 2, 1)),
        geometry([9, 15, 14, 40], 40, 40, square(3, 1, 1)),
        geometry([2, 32, 30, 35], 35, 35, square(5, 2, 2)),
        geometry([17, 4, 4, 48], 48, 48, square(5, 1, 2)),
        geometry([1, 12, 9, 16], 16, 16, square(7, 1, 3)),
        geometry([2, 12, 9, 1], 1, 1, square(3, 1, 1)),
        geometry([2, 3, 4, 6], 6, 3, Window { stride: [3, 1], padding: [3, 0], ..square(1, 1, 0) }),
        geometry([2, 40, 40, 130], 130, 130, square(3, 2, 1)),
        geometry([1, 3, 3, 4], 4, 1, square(2, 5, 0)),
        geometry([1, 2, 2, 4], 5, 1, square(3, 1, 5)),
        geometry([2, 2, 2, 4], 5, 1, square(3, 1, 0)),
        geometry([0, 4, 4, 4], 5, 1, square(3, 1, 1)),
    ]
}

#[test]
fn every_level_agrees_with_the_matrix_product() {
    shapes().iter().for_each(compare);
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    for g in shapes() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| [fast(&g), Path::Portable].map(|path| all(path, Arch::new(), &g)))
        };
        let bits = |results: [[Vec<f32>; 3]; 2]| {
            results.map(|three| three.map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>()))
        };
        let one = bits(run(1));
        for threads in [2, 3] {
            assert!(bits(run(threads)) == one, "{threads} threads give other bits than one: {g:?}");
        }
    }
}

/// A result does not depend on what else is in the batch.
#[test]
fn an_image_alone_gives_the_bits_it_gives_in_a_batch() {
    for g in shapes().into_iter().filter(|g| g.batch > 1) {
        let (x, weight) = (numbers(g.batch * g.input_image(), 1), numbers(g.outputs * g.group_inputs() * g.taps(), 2));
        let together = fast(&g).forward(Arch::new(), &g, &x, &weight);
        let one = Geometry { batch: 1, ..g };
        let alone = fast(&g).forward(Arch::new(), &one, &x[..g.input_image()], &weight);
        assert_eq!(alone, together[..alone.len()], "{g:?}");
    }
}

prop_compose! {
    fn any_geometry()(
        batch in 1..5usize,
        size in [1..20usize, 1..20usize],
        kernel in [1..6usize, 1..6usize],
        stride in [1..4usize, 1..4usize],
        padding in [0..4usize, 0..4usize],
        dilation in [1..3usize, 1..3usize],
        (groups, inputs, outputs) in prop_oneof![
            (Just(1usize), 1..40usize, 1..40usize),
            (2..4usize, 1..9usize, 1..9usize),
            (1..40usize, Just(1usize), Just(1usize)),
        ],
    ) -> Geometry {
        let window = Window { kernel, stride, padding, dilation };
        geometry([batch, size[0], size[1], groups * inputs], groups * outputs, groups, window)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_convolution_agrees_with_the_matrix_product(g in any_geometry()) {
        compare(&g);
    }
}
