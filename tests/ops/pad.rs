use crate::check::{check, normal};
use runner::tensor::ops::{pad2d, same_padding};

#[test]
fn pad_and_gradient() {
    for borders in [[[0, 0], [0, 0]], [[1, 0], [0, 2]], [[0, 3], [2, 1]]] {
        let [n, h, w, c] = [2, 3, 4, 5];
        check(
            &format!("pad {borders:?}"),
            1e-6,
            &[normal(&[n, h, w, c], 1)],
            |x| pad2d(&x[0], borders, -7.0),
            |x| {
                let (height, width) = (h + borders[0][0] + borders[0][1], w + borders[1][0] + borders[1][1]);
                let value = |at: usize| {
                    let (column, row, image) = (at / c % width, at / c / width % height, at / c / width / height);
                    let (row, column) = (row.checked_sub(borders[0][0])?, column.checked_sub(borders[1][0])?);
                    (row < h && column < w).then(|| x[0][((image * h + row) * w + column) * c + at % c])
                };
                (0..n * height * width * c).map(|at| value(at).unwrap_or(-7.0)).collect()
            },
        );
    }
}

/// `timm.layers.padding.get_same_padding`'s numbers.
#[test]
fn same_padding_puts_the_odd_pixel_last() {
    for ((size, kernel, stride), expected) in [
        ((224, 7, 2), [2, 3]),
        ((225, 7, 2), [3, 3]),
        ((112, 3, 2), [0, 1]),
        ((113, 3, 2), [1, 1]),
        ((56, 3, 1), [1, 1]),
        ((7, 1, 2), [0, 0]),
        ((1, 3, 2), [1, 1]),
    ] {
        assert_eq!(same_padding(size, kernel, stride), expected, "{size} {kernel} {stride}");
    }
}
