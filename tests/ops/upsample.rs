use crate::check::{check, normal};
use runner::tensor::ops::upsample_nearest2x;

fn reference([n, h, w, c]: [usize; 4], x: &[f64]) -> Vec<f64> {
    let at = |n: usize, y: usize, column: usize, c_: usize| x[((n * h + y / 2) * w + column / 2) * c + c_];
    let pixels = (0..n).flat_map(|n| (0..2 * h).flat_map(move |y| (0..2 * w).map(move |x| (n, y, x))));
    pixels.flat_map(|(n, y, x)| (0..c).map(move |c| (n, y, x, c))).map(|(n, y, x, c)| at(n, y, x, c)).collect()
}

#[test]
fn every_pixel_becomes_four() {
    for shape in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 4, 4, 33]] {
        let name = format!("upsample {shape:?}");
        check(&name, 1e-6, &[normal(&shape, 1)], |x| upsample_nearest2x(&x[0]), |x| reference(shape, &x[0]));
    }
}

#[test]
fn only_images_are_upsampled() {
    let error = upsample_nearest2x(&normal(&[2, 3], 1).tensor()).unwrap_err().to_string();
    assert!(error.contains("[2, 3]"), "{error}");
}
