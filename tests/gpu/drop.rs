use crate::check::{Input::Activation, same_on_gpu};
use runner::tensor::{Key, ops};

/// The same values are dropped on both sides, across the blocks that have streams of their own.
#[test]
fn dropout() {
    for (dims, rate) in [([3, 7, 11], 0.3), ([5, 40, 200], 0.1), ([2, 33, 5], 1.0), ([1, 3, 3], 0.5)] {
        same_on_gpu(&[Activation(&dims)], |x| ops::dropout(&x[0], rate, Key::new(3).named("drop")));
    }
}

#[test]
fn stochastic_depth() {
    for (dims, rate) in [([40, 3, 5, 8], 0.5), ([7, 2, 3, 3], 0.2), ([5, 1, 1, 1], 1.0), ([3, 2, 40, 40], 0.4)] {
        same_on_gpu(&[Activation(&dims)], |x| ops::drop_path(&x[0], rate, Key::new(5).with(1 << 40)));
    }
    same_on_gpu(&[Activation(&[40])], |x| ops::drop_path(&x[0], 0.5, Key::new(5)));
}
