use crate::check::{check, normal, run};
use runner::tensor::ops::{Window, avg_pool2d, avg_pool2d_ceil, global_avg_pool, max_pool2d};

type Shape = [usize; 4];

fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

fn cases() -> Vec<(Shape, Window)> {
    vec![
        ([1, 1, 1, 1], Window::square(1, 1, 0)),
        ([1, 1, 1, 3], Window::square(3, 2, 1)),
        ([2, 7, 5, 3], Window::square(3, 2, 1)),
        ([1, 8, 9, 17], Window::square(3, 2, 1)),
        ([2, 5, 5, 2], Window::square(2, 2, 0)),
        ([1, 6, 4, 16], window([3, 2], [1, 2], [1, 0], [1, 1])),
        ([1, 4, 9, 5], window([2, 5], [3, 1], [0, 2], [1, 1])),
    ]
}

/// What each output pixel sees: the flat places of its inputs, in torch's order; `None` in the padding.
fn sources([n, h, w, c]: Shape, window: Window) -> Vec<Vec<Option<usize>>> {
    let [oh, ow] = window.output([h, w]);
    let source = |axis: usize, at: usize, tap: usize| at * window.stride[axis] + tap * window.dilation[axis];
    let mut all = Vec::new();
    for at in 0..n * oh * ow * c {
        let (channel, ox, oy, image) = (at % c, at / c % ow, at / c / ow % oh, at / c / ow / oh);
        let taps = (0..window.kernel[0]).flat_map(|a| (0..window.kernel[1]).map(move |b| (a, b)));
        all.push(
            taps.map(|(a, b)| {
                let y = source(0, oy, a).checked_sub(window.padding[0]).filter(|&y| y < h)?;
                let x = source(1, ox, b).checked_sub(window.padding[1]).filter(|&x| x < w)?;
                Some(((image * h + y) * w + x) * c + channel)
            })
            .collect(),
        );
    }
    all
}

#[test]
fn max_pool_and_gradient() {
    let dilated = ([1, 9, 7, 3], window([3, 2], [2, 1], [1, 1], [2, 3]));
    for (shape, window) in cases().into_iter().chain([dilated]) {
        let seen = sources(shape, window);
        check(
            &format!("max pool {shape:?} {window:?}"),
            1e-6,
            &[normal(&shape, 1)],
            |x| max_pool2d(&x[0], window),
            |x| {
                let most = |taps: &Vec<Option<usize>>| taps.iter().flatten().map(|&i| x[0][i]).fold(f64::MIN, f64::max);
                seen.iter().map(most).collect()
            },
        );
    }
}

#[test]
fn avg_pool_and_gradient() {
    for (shape, window) in cases() {
        let seen = sources(shape, window);
        check(
            &format!("avg pool {shape:?} {window:?}"),
            1e-6,
            &[normal(&shape, 1)],
            |x| avg_pool2d(&x[0], window),
            |x| {
                let sum = |taps: &Vec<Option<usize>>| taps.iter().flatten().map(|&i| x[0][i]).sum::<f64>();
                seen.iter().map(|taps| sum(taps) / taps.len() as f64).collect()
            },
        );
    }
}

/// Windows that reach beyond the image average what they see.
#[test]
fn avg_pool_with_ceil_and_gradient() {
    for (shape, kernel, output) in [([2, 7, 4, 3], 2, [4, 2]), ([1, 1, 1, 5], 2, [1, 1]), ([2, 6, 8, 2], 3, [3, 4])] {
        let [n, h, w, c] = shape;
        check(
            &format!("avg pool with ceil {shape:?}, kernel {kernel}"),
            1e-6,
            &[normal(&shape, 1)],
            |x| {
                let y = avg_pool2d_ceil(&x[0], Window::square(kernel, 2, 0))?;
                assert_eq!(y.dims(), [n, output[0], output[1], c]);
                Ok(y)
            },
            |x| {
                let mean = |i: usize| {
                    let (channel, ox, oy) = (i % c, i / c % output[1], i / c / output[1] % output[0]);
                    let image = i / c / output[1] / output[0];
                    let rows = 2 * oy..(2 * oy + kernel).min(h);
                    let pixels = rows.flat_map(|y| (2 * ox..(2 * ox + kernel).min(w)).map(move |x| (y, x)));
                    let seen: Vec<f64> =
                        pixels.map(|(py, px)| x[0][((image * h + py) * w + px) * c + channel]).collect();
                    seen.iter().sum::<f64>() / seen.len() as f64
                };
                (0..n * output[0] * output[1] * c).map(mean).collect()
            },
        );
    }
}

#[test]
fn global_avg_pool_and_gradient() {
    for [n, h, w, c] in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 9, 9, 16], [3, 1, 2, 33]] {
        check(
            "global average",
            1e-6,
            &[normal(&[n, h, w, c], 1)],
            |x| global_avg_pool(&x[0]),
            |x| {
                let mean = |i: usize| {
                    let image = &x[0][i / c * h * w * c..(i / c + 1) * h * w * c];
                    image.iter().skip(i % c).step_by(c).sum::<f64>() / (h * w) as f64
                };
                (0..n * c).map(mean).collect()
            },
        );
    }
}

/// Among equal maxima the first of the window gets the whole gradient, as in torch.
#[test]
fn the_first_maximum_wins() {
    let window = Window::square(3, 2, 1);
    let (_, dy, gradients) = run(&[normal(&[1, 4, 4, 1], 1).map(|_| -1.0)], |x| max_pool2d(&x[0], window));
    let first = [0, 1, 4, 5];
    for (i, &dx) in gradients[0].iter().enumerate() {
        let expected = first.iter().position(|&place| place == i).map_or(0.0, |output| dy[output]);
        assert_eq!(dx, expected, "pixel {i}");
    }
}

#[test]
fn nan_wins_and_minus_infinity_is_a_value() {
    let window = Window::square(2, 2, 0);
    let mut x = normal(&[1, 2, 4, 1], 1).map(|_| f32::NEG_INFINITY);
    x.values[1] = f32::NAN;
    let (y, dy, gradients) = run(&[x], |x| max_pool2d(&x[0], window));
    assert!(y[0].is_nan() && y[1] == f32::NEG_INFINITY, "{y:?}");
    assert_eq!(gradients[0], [0.0, dy[0], dy[1], 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let x = normal(&[1, 2, 2, 1], 1).tensor();
    for window in [Window::square(3, 1, 0), Window::square(2, 0, 0), Window::square(2, 1, 2)] {
        assert!(max_pool2d(&x, window).is_err() && avg_pool2d(&x, window).is_err(), "{window:?}");
    }
    assert!(max_pool2d(&normal(&[1, 40, 40, 1], 1).tensor(), Window::square(17, 1, 0)).is_err());
}
