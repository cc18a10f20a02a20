use crate::{
    check::{Input, check, close, normal, run, values},
    elementwise::{ACTIVATIONS, act},
};
use candle_core::{Device, Tensor, Var};
use runner::tensor::ops::{Activation, batch_norm_eval, batch_norm_train};

const EPS: f64 = 1e-5;

/// Mean and biased variance of each channel.
fn moments(x: &[f64], channels: usize) -> Vec<(f64, f64)> {
    let of = |c: usize| x.iter().skip(c).step_by(channels);
    let count = (x.len() / channels) as f64;
    let mean = |c: usize| of(c).sum::<f64>() / count;
    (0..channels).map(|c| (mean(c), of(c).map(|x| (x - mean(c)).powi(2)).sum::<f64>() / count)).collect()
}

fn normalize(x: &[Vec<f64>], moments: &[(f64, f64)], activation: Activation) -> Vec<f64> {
    let channels = moments.len();
    let z = x[0].iter().enumerate().map(|(i, value)| {
        let (mean, var) = moments[i % channels];
        let residual = x.get(3).map_or(0.0, |residual| residual[i]);
        x[1][i % channels] * (value - mean) / (var + EPS).sqrt() + x[2][i % channels] + residual
    });
    z.map(|z| act(activation, z)).collect()
}

fn inputs(shape: &[usize], residual: bool) -> Vec<Input> {
    let channels = shape[shape.len() - 1];
    let mut all = vec![normal(shape, 1).map(|x| 2.0 * x + 0.5), normal(&[channels], 2), normal(&[channels], 3)];
    all.extend(residual.then(|| normal(shape, 4)));
    all
}

fn train(x: &[Tensor], activation: Activation) -> runner::error::Result<Tensor> {
    Ok(batch_norm_train(&x[0], &x[1], &x[2], x.get(3), activation, EPS)?.0)
}

#[test]
fn training_and_gradients() {
    for shape in [vec![2, 1, 1, 1], vec![1, 3, 1, 2], vec![2, 3, 5, 3], vec![1, 2, 2, 33], vec![5, 16]] {
        for activation in ACTIVATIONS {
            for residual in [false, true] {
                let name = format!("batch norm of {shape:?}, {activation:?}, residual: {residual}");
                let channels = shape[shape.len() - 1];
                check(
                    &name,
                    2e-5,
                    &inputs(&shape, residual),
                    |x| train(x, activation),
                    |x| normalize(x, &moments(&x[0], channels), activation),
                );
            }
        }
    }
}

/// Larger than a task of the implementation, so that partial sums are combined.
#[test]
fn training_over_many_blocks() {
    let shape = [3, 97, 101, 19];
    let all = inputs(&shape, false);
    let exact: Vec<Vec<f64>> = all.iter().map(|x| x.values.iter().map(|&v| v.into()).collect()).collect();
    let expected = moments(&exact[0], 19);
    let (y, dy, gradients) = run(&all, |x| train(x, Activation::Identity));
    close("values", 2e-6, &y, &normalize(&exact, &expected, Activation::Identity));
    let sums = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
        (0..19).map(|c| (c..y.len()).step_by(19).map(|i| f64::from(dy[i]) * f(i)).sum()).collect()
    };
    let hat = |i: usize| (exact[0][i] - expected[i % 19].0) / (expected[i % 19].1 + EPS).sqrt();
    let (weight, bias) = (sums(&hat), sums(&|_| 1.0));
    close("gradient of the weight", 2e-6, &gradients[1], &weight);
    close("gradient of the bias", 2e-6, &gradients[2], &bias);
    let rows = (3 * 97 * 101) as f64;
    let dx = (0..y.len()).map(|i| {
        let c = i % 19;
        let inner = f64::from(dy[i]) - bias[c] / rows - hat(i) * weight[c] / rows;
        exact[1][c] / (expected[c].1 + EPS).sqrt() * inner
    });
    close("gradient of the input", 2e-6, &gradients[0], &dx.collect::<Vec<_>>());
}

/// A mean of 10,000 standard deviations, and a first image unlike the others.
#[test]
fn a_large_mean_does_not_drown_the_variance() {
    let shape = [4, 40, 40, 5];
    let mut x = normal(&shape, 1).map(|x| x + 1e4);
    for first in [1e4, 0.0] {
        x.values[..40 * 40 * 5].fill(first);
        let exact: Vec<f64> = x.values.iter().map(|&value| value.into()).collect();
        let expected = moments(&exact, 5);
        let ones = Tensor::ones(5, candle_core::DType::F32, &Device::Cpu).unwrap();
        let zeros = ones.zeros_like().unwrap();
        let (y, mean, var) = batch_norm_train(&x.tensor(), &ones, &zeros, None, Activation::Identity, EPS).unwrap();
        close("mean", 1e-7, &values(&mean), &expected.iter().map(|m| m.0).collect::<Vec<_>>());
        let unbiased = 6400.0 / 6399.0;
        close("variance", 1e-5, &values(&var), &expected.iter().map(|m| m.1 * unbiased).collect::<Vec<_>>());
        let parameters = [exact, vec![1.0; 5], vec![0.0; 5]];
        close("values", 1e-5, &values(&y), &normalize(&parameters, &expected, Activation::Identity));
    }
}

#[test]
fn evaluation_uses_the_given_statistics() {
    for activation in ACTIVATIONS {
        for residual in [false, true] {
            let all = inputs(&[2, 3, 5, 3], residual);
            let tensors: Vec<Tensor> = all.iter().map(|input| input.tensor()).collect();
            let (mean, var) = (normal(&[3], 7), normal(&[3], 8).map(|x| x * x + 0.1));
            let statistics = (&mean.tensor(), &var.tensor());
            let x = &tensors;
            let y = batch_norm_eval(&x[0], &x[1], &x[2], statistics, x.get(3), activation, EPS).unwrap();
            let exact: Vec<Vec<f64>> = all.iter().map(|x| x.values.iter().map(|&v| v.into()).collect()).collect();
            let given: Vec<_> = mean.values.iter().zip(&var.values).map(|(&m, &v)| (m.into(), v.into())).collect();
            close("evaluation", 2e-6, &values(&y), &normalize(&exact, &given, activation));
        }
    }
}

#[test]
fn evaluation_is_off_the_tape() {
    let all: Vec<Var> = inputs(&[2, 3, 3, 4], true).iter().map(|x| Var::from_tensor(&x.tensor()).unwrap()).collect();
    let statistics = (all[1].as_tensor(), all[2].as_tensor());
    let y = batch_norm_eval(&all[0], &all[1], &all[2], statistics, Some(&all[3]), Activation::Relu, EPS).unwrap();
    assert!(!y.track_op());
}

/// A frozen input or weight gets no gradient; the others still do.
#[test]
fn gradients_stop_where_inputs_are_not_tracked() {
    let all = inputs(&[2, 3, 3, 4], true);
    for tracked in 0..4 {
        let var = Var::from_tensor(&all[tracked].tensor()).unwrap();
        let tensors: Vec<Tensor> =
            (0..4).map(|i| if i == tracked { var.as_tensor().clone() } else { all[i].tensor() }).collect();
        let y = train(&tensors, Activation::Relu).unwrap();
        let dy = normal(y.dims(), 99).tensor();
        let gradients = (&y * dy).unwrap().sum_all().unwrap().backward().unwrap();
        let (_, _, expected) = run(&all, |x| train(x, Activation::Relu));
        assert_eq!(values(gradients.get(&var).expect("a gradient")), expected[tracked]);
        assert!(tensors.iter().enumerate().all(|(i, x)| i == tracked || gradients.get(x).is_none()));
    }
}

#[test]
fn one_value_a_channel_is_refused() {
    let x: Vec<Tensor> = inputs(&[1, 1, 1, 4], false).iter().map(|input| input.tensor()).collect();
    let error = train(&x, Activation::Relu).unwrap_err();
    assert!(error.to_string().contains("more than one value a channel"), "{error}");
}
