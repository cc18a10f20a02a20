//! Convolution: outputs and gradients against a plain double-precision loop.

use candle_core::{Device, Tensor, Var};
use runner::tensor::{
    Key,
    ops::{Window, conv2d},
};

type Shape = (usize, usize, usize, usize);

/// One convolution to check: input `(N, H, W, in)`, output channels, groups.
#[derive(Clone, Copy, Debug)]
struct Case {
    x: Shape,
    outputs: usize,
    groups: usize,
    window: Window,
}

impl Case {
    fn weight(&self) -> Shape {
        let [kh, kw] = self.window.kernel;
        (self.outputs, self.x.3 / self.groups, kh, kw)
    }

    fn output(&self) -> Shape {
        let [height, width] = self.window.output([self.x.1, self.x.2]);
        (self.x.0, height, width, self.outputs)
    }

    /// Calls `visit(y, x, w)` with the flat places of every product the convolution sums.
    fn each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let ((batch, height, width, inputs), (outputs, per_group, kh, kw)) = (self.x, self.weight());
        let (_, oh, ow, _) = self.output();
        let Window { stride, padding, dilation, .. } = self.window;
        for n in 0..batch {
            for at in 0..oh * ow * outputs * per_group * kh * kw {
                let (at, kx) = (at / kw, at % kw);
                let (at, ky) = (at / kh, at % kh);
                let (at, i) = (at / per_group, at % per_group);
                let (at, o) = (at / outputs, at % outputs);
                let (oy, ox) = (at / ow, at % ow);
                let iy = (oy * stride[0] + ky * dilation[0]).wrapping_sub(padding[0]);
                let ix = (ox * stride[1] + kx * dilation[1]).wrapping_sub(padding[1]);
                if iy < height && ix < width {
                    let group = o / (outputs / self.groups);
                    let y = ((n * oh + oy) * ow + ox) * outputs + o;
                    let x = ((n * height + iy) * width + ix) * inputs + group * per_group + i;
                    visit(y, x, ((o * per_group + i) * kh + ky) * kw + kx);
                }
            }
        }
    }
}

fn len(shape: Shape) -> usize {
    shape.0 * shape.1 * shape.2 * shape.3
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = Key::new(seed).rng();
    (0..count).map(|_| rng.normal() as f32).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Output, input gradient and weight gradient of `sum(y * dy)`, by the library.
fn ours(case: &Case, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let cpu = Device::Cpu;
    let x = Var::from_slice(x, case.x, &cpu).unwrap();
    let w = Var::from_slice(w, case.weight(), &cpu).unwrap();
    let dy = Tensor::from_slice(dy, case.output(), &cpu).unwrap();
    let y = conv2d(&x, &w, case.window, case.groups).unwrap();
    assert_eq!(y.dims4().unwrap(), case.output(), "{case:?}");
    let gradients = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
    [&y, gradients.get(&x).unwrap(), gradients.get(&w).unwrap()].map(values)
}

/// The same by the definition, in f64.
fn reference(case: &Case, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
    let mut sums = [vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]];
    case.each_product(|y_at, x_at, w_at| {
        let (x, w, dy) = (f64::from(x[x_at]), f64::from(w[w_at]), f64::from(dy[y_at]));
        sums[0][y_at] += x * w;
        sums[1][x_at] += w * dy;
        sums[2][w_at] += x * dy;
    });
    sums
}

fn check(case: &Case) {
    let (x, w) = (numbers(len(case.x), 1), numbers(len(case.weight()), 2));
    let dy = numbers(len(case.output()), 3);
    let (got, wanted) = (ours(case, &x, &w, &dy), reference(case, &x, &w, &dy));
    for (what, (got, wanted)) in ["output", "input gradient", "weight gradient"].iter().zip(got.iter().zip(&wanted)) {
        let scale = (wanted.iter().map(|v| v * v).sum::<f64>() / wanted.len() as f64).sqrt();
        for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
            let error = (f64::from(*got) - wanted).abs();
            assert!(error <= 2e-5 * scale, "{what} {at} of {case:?}: {got}, should be {wanted}");
        }
    }
}

const fn case(x: Shape, outputs: usize, groups: usize, window: Window) -> Case {
    Case { x, outputs, groups, window }
}

const CASES: &[Case] = &[
    case((2, 5, 6, 7), 9, 1, Window::square(1, 1, 0)),
    case((1, 7, 5, 3), 8, 1, Window::square(3, 1, 1)),
    case((2, 16, 17, 3), 20, 1, Window::square(7, 2, 3)),
    case((1, 32, 33, 3), 5, 1, Window::square(16, 16, 0)),
    case((2, 9, 8, 16), 32, 1, Window::square(3, 2, 1)),
    case((2, 8, 9, 17), 33, 1, Window::square(3, 2, 1)),
    case((1, 10, 11, 4), 6, 1, Window::square(3, 3, 1)),
    case((1, 11, 9, 5), 7, 1, Window { dilation: [2, 2], ..Window::square(3, 1, 2) }),
    case((2, 8, 7, 6), 10, 2, Window::square(3, 2, 1)),
    case((2, 9, 7, 20), 20, 20, Window::square(3, 1, 1)),
    case((2, 9, 8, 24), 24, 24, Window::square(5, 2, 2)),
    case((1, 10, 9, 3), 3, 3, Window::square(7, 1, 3)),
];

#[test]
fn outputs_and_gradients_follow_the_definition() {
    CASES.iter().for_each(check);
}

/// What tests/golden/conv.py keeps of one convolution.
#[derive(serde::Deserialize)]
struct Golden {
    name: String,
    x: Shape,
    outputs: usize,
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    results: [Kept; 3],
}

#[derive(serde::Deserialize)]
struct Kept {
    first: Vec<f64>,
    squares: f64,
}

/// The script's numbers.
fn ruled(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * step % 257) as f32 - 128.0) / 128.0).collect()
}

#[test]
fn outputs_and_gradients_are_torchs() {
    let goldens: Vec<Golden> = serde_json::from_str(include_str!("golden/conv.json")).unwrap();
    assert_eq!(goldens.len(), 8);
    for g in goldens {
        let window = Window { kernel: g.kernel, stride: g.stride, padding: g.padding, dilation: g.dilation };
        let case = case(g.x, g.outputs, g.groups, window);
        let (x, w, dy) = (ruled(len(case.x), 37), ruled(len(case.weight()), 59), ruled(len(case.output()), 83));
        for (got, wanted) in ours(&case, &x, &w, &dy).iter().zip(&g.results) {
            let squares: f64 = got.iter().map(|v| f64::from(*v).powi(2)).sum();
            assert!((squares / wanted.squares - 1.0).abs() < 1e-5, "{}: {squares}, torch {}", g.name, wanted.squares);
            let tolerance = 2e-5 * (wanted.squares / got.len() as f64).sqrt();
            for (got, wanted) in got.iter().zip(&wanted.first) {
                assert!((f64::from(*got) - wanted).abs() <= tolerance, "{}: {got}, torch {wanted}", g.name);
            }
        }
    }
}

#[test]
fn only_what_is_tracked_gets_a_gradient() {
    let cpu = Device::Cpu;
    let window = Window::square(3, 1, 1);
    let x = Var::from_slice(&numbers(4 * 4 * 2, 1), (1, 4, 4, 2), &cpu).unwrap();
    let w = Var::from_slice(&numbers(3 * 2 * 9, 2), (3, 2, 3, 3), &cpu).unwrap();
    let of_x = conv2d(&x, &w.as_detached_tensor(), window, 1).unwrap().backward().unwrap();
    assert!(of_x.get(&x).is_some() && of_x.get(&w).is_none());
    let of_w = conv2d(&x.as_detached_tensor(), &w, window, 1).unwrap().backward().unwrap();
    assert!(of_w.get(&x).is_none() && of_w.get(&w).is_some());
}

/// Views that are not contiguous mean the same as their copies.
#[test]
fn transposed_arguments_are_read_as_they_are_shown() {
    let cpu = Device::Cpu;
    let x = Tensor::from_vec(numbers(2 * 5 * 6 * 7, 1), (2, 7, 5, 6), &cpu).unwrap().permute((0, 2, 3, 1)).unwrap();
    let w = Tensor::from_vec(numbers(4 * 7 * 9, 2), (7, 4, 3, 3), &cpu).unwrap().transpose(0, 1).unwrap();
    let window = Window::square(3, 2, 1);
    let copies = conv2d(&x.contiguous().unwrap(), &w.contiguous().unwrap(), window, 1).unwrap();
    assert_eq!(values(&conv2d(&x, &w, window, 1).unwrap()), values(&copies));
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let cpu = Device::Cpu;
    let x = Tensor::zeros((1, 4, 4, 6), candle_core::DType::F32, &cpu).unwrap();
    let w = Tensor::zeros((4, 3, 3, 3), candle_core::DType::F32, &cpu).unwrap();
    let message = |window, groups| conv2d(&x, &w, window, groups).unwrap_err().to_string();
    assert!(message(Window::square(3, 1, 1), 1).contains("[1, 4, 4, 6] with weight [4, 3, 3, 3], 1 groups"));
    assert!(message(Window::square(5, 1, 1), 2).contains("does not fit the weight"));
    assert!(message(Window::square(3, 0, 1), 2).contains("does not fit the weight"));
    assert!(message(Window::square(3, 1, 1), 0).contains("groups"));
}
