use crate::check::{check, normal, run, values};
use candle_core::{Device, Tensor};
use runner::tensor::{
    Key,
    ops::{Activation, Window, activate, conv2d_bias, drop_path, dropout, gate_channels, scale_add, squeeze_excite},
};

pub const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::Gelu,
    Activation::HardSwish,
    Activation::HardSigmoid,
];

/// The definition, in f64.
pub fn act(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Silu => z / (1.0 + (-z).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        Activation::Gelu => z * normal_cdf(z),
        Activation::HardSwish => z * (z + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoid => (z + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

/// By its Taylor series; beyond 6 it is 0 or 1 to nine digits.
fn normal_cdf(z: f64) -> f64 {
    if z.abs() > 6.0 {
        return f64::from(z > 0.0);
    }
    let (mut term, mut sum) = (z, z);
    for k in 1..120 {
        term *= -z * z / (2.0 * k as f64);
        sum += term / (2 * k + 1) as f64;
    }
    0.5 + sum / std::f64::consts::TAU.sqrt()
}

#[test]
fn activations_and_gradients() {
    for activation in ACTIVATIONS {
        for shape in [vec![1, 1, 1, 1], vec![2, 3, 5, 7], vec![3, 50]] {
            let x = normal(&shape, 1).map(|x| 2.0 * x);
            let name = format!("{activation:?} of {shape:?}");
            check(
                &name,
                2e-6,
                &[x],
                |x| activate(&x[0], activation),
                |x| x[0].iter().map(|&x| act(activation, x)).collect(),
            );
        }
    }
}

#[test]
fn activations_at_the_edges() {
    let x = Tensor::new(&[f32::NAN, f32::INFINITY, -100.0, 100.0, 0.0, -0.0, -1e30], &Device::Cpu).unwrap();
    for activation in ACTIVATIONS.into_iter().filter(|activation| !activation.is_identity()) {
        let y = values(&activate(&x, activation).unwrap());
        let gate = matches!(activation, Activation::Sigmoid | Activation::HardSigmoid);
        let one = if gate { 1.0 } else { f32::INFINITY };
        assert!(y[0].is_nan(), "{activation:?} of NaN is {}", y[0]);
        assert_eq!(y[1], one, "{activation:?} of infinity");
        assert!(y[2].abs() < 1e-30 && y[6].abs() < 1e-30, "{activation:?} of very negative numbers: {y:?}");
        assert_eq!(y[3], if one == 1.0 { 1.0 } else { 100.0 }, "{activation:?} of 100");
    }
}

/// Where the slope jumps, as torch: it belongs to the left at -3 and to the right at 3.
#[test]
fn hard_activations_have_the_slopes_of_torch() {
    let at = |activation| {
        let x = crate::check::Input { shape: vec![4], values: vec![-3.0, 3.0, -2.999, 2.999] };
        let (_, dy, gradients) = run(&[x], |x| activate(&x[0], activation));
        gradients[0].iter().zip(dy).map(|(dx, dy)| dx / dy).collect::<Vec<_>>()
    };
    for (activation, slopes) in [
        (Activation::HardSwish, [0.0, 1.0, -0.499_666_7, 1.499_666_7]),
        (Activation::HardSigmoid, [0.0, 0.0, 1.0 / 6.0, 1.0 / 6.0]),
    ] {
        let ours = at(activation);
        let close = ours.iter().zip(slopes).all(|(ours, slope)| (f64::from(*ours) - slope).abs() < 1e-5);
        assert!(close, "{activation:?}: {ours:?}");
    }
}

#[test]
fn relu_is_flat_at_zero() {
    let (_, _, gradients) = run(&[normal(&[3], 1).map(|_| 0.0)], |x| activate(&x[0], Activation::Relu));
    assert_eq!(gradients[0], [0.0; 3]);
}

/// The exponential behind silu and sigmoid, and the error function behind gelu, over their whole range.
#[test]
fn activations_are_accurate_everywhere() {
    let x: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.01).collect();
    let tensor = Tensor::from_slice(&x, x.len(), &Device::Cpu).unwrap();
    let relative = |activation, within: f32| {
        let y = values(&activate(&tensor, activation).unwrap());
        let pairs = x.iter().zip(y).filter(|(x, _)| x.abs() <= within);
        pairs
            .map(|(&x, y)| (f64::from(y) / act(activation, x.into()) - 1.0).abs())
            .filter(|e| e.is_finite())
            .fold(0.0, f64::max)
    };
    assert!(relative(Activation::Silu, 40.0) < 1e-6, "silu is off by {}", relative(Activation::Silu, 40.0));
    assert!(relative(Activation::Sigmoid, 40.0) < 1e-6, "sigmoid is off by {}", relative(Activation::Sigmoid, 40.0));
    assert!(relative(Activation::Gelu, 3.5) < 2e-6, "gelu is off by {}", relative(Activation::Gelu, 3.5));
}

#[test]
fn gates_and_gradients() {
    for [n, h, w, c] in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 4, 3, 33], [3, 2, 2, 16]] {
        let inputs = [normal(&[n, h, w, c], 1), normal(&[n, c], 2)];
        let name = format!("gate of {:?}", [n, h, w, c]);
        check(
            &name,
            3e-6,
            &inputs,
            |x| gate_channels(&x[0], &x[1]),
            |x| {
                let gate = |i: usize| act(Activation::Sigmoid, x[1][i / (h * w * c) * c + i % c]);
                x[0].iter().enumerate().map(|(i, x)| x * gate(i)).collect()
            },
        );
    }
}

#[test]
fn a_gate_of_the_wrong_size_is_refused() {
    let (x, gate) = (normal(&[2, 3, 3, 4], 1).tensor(), normal(&[2, 5], 2).tensor());
    assert!(gate_channels(&x, &gate).is_err());
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    let x = normal(&[70_001], 1).map(|_| 1.0);
    let (y, dy, gradients) = run(&[x], |x| dropout(&x[0], 0.3, Key::new(5)));
    let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / y.len() as f64;
    assert!((dropped - 0.3).abs() < 0.01, "{dropped} was dropped");
    for ((&y, &dy), &dx) in y.iter().zip(&dy).zip(&gradients[0]) {
        assert!(y == 0.0 || (y - 1.0 / 0.7).abs() < 1e-6, "kept as {y}");
        assert_eq!(dx, dy * y, "the gradient passes where the value does");
    }
}

#[test]
fn drop_path_drops_whole_samples() {
    let x = normal(&[400, 2, 2, 3], 1).map(|_| 1.0);
    let (y, dy, gradients) = run(&[x], |x| drop_path(&x[0], 0.25, Key::new(5)));
    let samples: Vec<&[f32]> = y.chunks(12).collect();
    assert!(samples.iter().all(|sample| sample.iter().all(|&y| y == sample[0])));
    let dropped = samples.iter().filter(|sample| sample[0] == 0.0).count() as f64 / 400.0;
    assert!((dropped - 0.25).abs() < 0.07, "{dropped} was dropped");
    let passed = y.iter().zip(&dy).zip(&gradients[0]);
    passed.for_each(|((&y, &dy), &dx)| assert_eq!(dx, dy * y));
}

#[test]
fn what_is_dropped_depends_on_the_key_alone() {
    let x = normal(&[40, 5], 1).tensor();
    let drop = |seed| values(&dropout(&x, 0.5, Key::new(seed)).unwrap());
    assert_eq!(drop(1), drop(1));
    assert_ne!(drop(1), drop(2));
    assert_eq!(values(&dropout(&x, 0.0, Key::new(1)).unwrap()), values(&x));
    assert!(values(&dropout(&x, 1.0, Key::new(1)).unwrap()).iter().all(|&y| y == 0.0));
    assert!(dropout(&x, 1.5, Key::new(1)).is_err());
}

#[test]
fn squeeze_excite_and_gradients() {
    let opens = [Activation::Sigmoid, Activation::HardSigmoid];
    for ([n, h, w, c], open) in
        [[1, 1, 1, 1], [2, 3, 5, 7], [1, 4, 3, 33]].into_iter().flat_map(|s| opens.map(|o| (s, o)))
    {
        let inputs = [normal(&[n, h, w, c], 1), normal(&[n, c], 2)];
        let name = format!("squeeze-excite of {:?} with {open:?}", [n, h, w, c]);
        check(
            &name,
            3e-6,
            &inputs,
            |x| squeeze_excite(&x[0], open, |means| Ok((means * &x[1])?)),
            |x| {
                let image = |i: usize| &x[0][i / (h * w * c) * h * w * c..][..h * w * c];
                let mean = |i: usize| image(i).iter().skip(i % c).step_by(c).sum::<f64>() / (h * w) as f64;
                let gate = |i: usize| act(open, mean(i) * x[1][i / (h * w * c) * c + i % c]);
                x[0].iter().enumerate().map(|(i, x)| x * gate(i)).collect()
            },
        );
    }
}

#[test]
fn scale_add_and_gradients() {
    for shape in [vec![1, 1, 1, 1], vec![2, 3, 5, 7], vec![70, 33]] {
        let c = shape[shape.len() - 1];
        let inputs = [normal(&shape, 1), normal(&[c], 2), normal(&shape, 3)];
        check(
            &format!("scale-add of {shape:?}"),
            2e-6,
            &inputs,
            |x| scale_add(&x[0], &x[1], &x[2]),
            |x| x[0].iter().zip(&x[2]).enumerate().map(|(i, (x0, shortcut))| shortcut + x0 * x[1][i % c]).collect(),
        );
    }
    let (x, scale) = (normal(&[2, 3], 1).tensor(), normal(&[2], 2).tensor());
    assert!(scale_add(&x, &scale, &x).is_err());
}

/// Depthwise, at stride 1.
#[test]
fn convolution_with_bias_and_gradients() {
    let [n, h, w, c, k] = [2, 4, 5, 3, 3];
    let inputs = [normal(&[n, h, w, c], 1), normal(&[c, 1, k, k], 2), normal(&[c], 3)];
    check(
        "depthwise convolution with bias",
        3e-6,
        &inputs,
        |x| conv2d_bias(&x[0], &x[1], &x[2], Window::square(k, 1, k / 2), c),
        |x| {
            let at = |i: usize| {
                let (channel, px, py, image) = (i % c, i / c % w, i / c / w % h, i / c / w / h);
                let taps = (0..k * k).filter_map(|tap| {
                    let y = (py + tap / k).checked_sub(k / 2).filter(|&y| y < h)?;
                    let px = (px + tap % k).checked_sub(k / 2).filter(|&x| x < w)?;
                    Some(x[1][channel * k * k + tap] * x[0][((image * h + y) * w + px) * c + channel])
                });
                x[2][channel] + taps.sum::<f64>()
            };
            (0..n * h * w * c).map(at).collect()
        },
    );
    let [x, weight, bias] = [normal(&[1, 4, 4, 3], 1), normal(&[5, 3, 1, 1], 2), normal(&[3], 3)].map(|i| i.tensor());
    assert!(conv2d_bias(&x, &weight, &bias, Window::square(1, 1, 0), 1).is_err());
}
