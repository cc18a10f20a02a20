//! The same bits under one, two and three threads.

use crate::check::{Input, normal, run};
use candle_core::Tensor;
use runner::{
    error::Result,
    tensor::{
        Key,
        ops::{self, Activation, Window},
    },
};

type Operation = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Sync>;

fn operations() -> Vec<(&'static str, Vec<Input>, Operation)> {
    let image = || normal(&[5, 61, 67, 24], 1);
    let targets = normal(&[700, 30], 2).tensor();
    vec![
        ("batch norm", vec![image(), normal(&[24], 2), normal(&[24], 3), normal(&[5, 61, 67, 24], 4)], {
            Box::new(|x| Ok(ops::batch_norm_train(&x[0], &x[1], &x[2], Some(&x[3]), Activation::Silu, 1e-5)?.0))
        }),
        ("layer norm", vec![image(), normal(&[24], 2), normal(&[24], 3)], {
            Box::new(|x| ops::layer_norm(&x[0], Some((&x[1], &x[2])), 1e-6))
        }),
        ("group norm", vec![image(), normal(&[24], 2), normal(&[24], 3)], {
            Box::new(|x| ops::group_norm(&x[0], 8, &x[1], &x[2], Activation::Relu, 1e-5))
        }),
        ("attention", vec![normal(&[3, 70, 96], 1)], Box::new(|x| ops::attention(&x[0], 4))),
        ("tokens", vec![normal(&[5, 30, 9], 1), normal(&[1, 1, 9], 2), normal(&[1, 31, 9], 3)], {
            Box::new(|x| ops::tokens(&x[0], &x[1], &x[2]))
        }),
        ("pad", vec![image()], Box::new(|x| ops::pad2d(&x[0], [[1, 2], [0, 1]], 0.0))),
        ("gelu", vec![image()], Box::new(|x| ops::activate(&x[0], Activation::Gelu))),
        ("bias", vec![image(), normal(&[24], 2)], Box::new(|x| ops::bias(&x[0], &x[1], Activation::Silu))),
        ("upsample", vec![image()], Box::new(|x| ops::upsample_nearest2x(&x[0]))),
        ("gate", vec![image(), normal(&[5, 24], 2)], Box::new(|x| ops::gate_channels(&x[0], &x[1]))),
        ("max pool", vec![image()], Box::new(|x| ops::max_pool2d(&x[0], Window::square(3, 2, 1)))),
        ("avg pool", vec![image()], Box::new(|x| ops::avg_pool2d(&x[0], Window::square(3, 2, 1)))),
        ("scale add", vec![image(), normal(&[24], 2), image()], { Box::new(|x| ops::scale_add(&x[0], &x[1], &x[2])) }),
        ("conv with bias", vec![image(), normal(&[24, 1, 7, 7], 2), normal(&[24], 3)], {
            Box::new(|x| ops::conv2d_bias(&x[0], &x[1], &x[2], Window::square(7, 1, 3), 24))
        }),
        ("global avg pool", vec![image()], Box::new(|x| ops::global_avg_pool(&x[0]))),
        ("dropout", vec![image()], Box::new(|x| ops::dropout(&x[0], 0.4, Key::new(3)))),
        ("drop path", vec![image()], Box::new(|x| ops::drop_path(&x[0], 0.4, Key::new(3)))),
        ("linear", vec![normal(&[1100, 96], 1), normal(&[160, 96], 2), normal(&[160], 3)], {
            Box::new(|x| ops::linear(&x[0], &x[1], &x[2], Activation::Gelu))
        }),
        ("cross entropy", vec![normal(&[700, 30], 1)], {
            Box::new(move |x| ops::soft_cross_entropy(&x[0], &targets, None))
        }),
    ]
}

#[test]
fn bits_do_not_depend_on_threads() {
    for (name, inputs, op) in operations() {
        let under = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (y, _, gradients) = pool.install(|| run(&inputs, &op));
            let bits = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            (bits(&y), gradients.iter().map(bits).collect::<Vec<_>>())
        };
        let one = under(1);
        assert!(one == under(2) && one == under(3), "{name} depends on the number of threads");
    }
}
