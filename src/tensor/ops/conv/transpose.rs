//! Between `(out, in, kh, kw)` and the kernels' order, whose lanes are channels: transposition, four by four.

/// Lanes that lie `stride` apart, of which neighbouring floats belong to different rows.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    pub count: usize,
    pub stride: usize,
}

/// Rows of a packed panel; a row that is not wanted has the number [`NONE`].
pub const NONE: usize = usize::MAX;

/// `packed[rows[q] * width + lane] = weight[lane * stride + q]`.
///
/// # Panics
/// Where a place lies outside its slice.
pub fn pack(weight: &[f32], lanes: Lanes, rows: &[usize], packed: &mut [f32], width: usize) {
    each_square(lanes, rows, |lane, place, rows| match rows {
        Ok(rows) => {
            let square: [[f32; 4]; 4] = std::array::from_fn(|l| four(&weight[(lane + l) * lanes.stride + place..]));
            for (row, values) in rows.iter().zip(transposed(square)) {
                packed[row * width + lane..][..4].copy_from_slice(&values);
            }
        }
        Err(row) => packed[row * width + lane] = weight[lane * lanes.stride + place],
    });
}

/// The inverse: `write(lane * stride + q, packed[rows[q] * width + lane])`, four neighbours at a time where it can.
///
/// # Panics
/// Where a place lies outside `packed`.
pub fn unpack(packed: &[f32], width: usize, lanes: Lanes, rows: &[usize], mut write: impl FnMut(usize, &[f32])) {
    each_square(lanes, rows, |lane, place, rows| match rows {
        Ok(rows) => {
            let square = rows.map(|row| four(&packed[row * width + lane..]));
            for (l, values) in transposed(square).iter().enumerate() {
                write((lane + l) * lanes.stride + place, values);
            }
        }
        Err(row) => write(lane * lanes.stride + place, &packed[row * width + lane..][..1]),
    });
}

/// Visits `(lane, q, rows)`: squares of four lanes by the four rows from `q`, and what is left one by one.
#[inline(always)]
fn each_square(lanes: Lanes, rows: &[usize], mut visit: impl FnMut(usize, usize, Result<[usize; 4], usize>)) {
    for lane in (0..lanes.count).step_by(4) {
        for place in (0..rows.len()).step_by(4) {
            let here = &rows[place..(place + 4).min(rows.len())];
            match here {
                &[a, b, c, d] if lane + 4 <= lanes.count && ![a, b, c, d].contains(&NONE) => {
                    visit(lane, place, Ok([a, b, c, d]));
                }
                _ => {
                    for lane in lane..(lane + 4).min(lanes.count) {
                        for (at, &row) in here.iter().enumerate().filter(|(_, row)| **row != NONE) {
                            visit(lane, place + at, Err(row));
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn four(values: &[f32]) -> [f32; 4] {
    let values = &values[..4];
    [values[0], values[1], values[2], values[3]]
}

#[inline(always)]
fn transposed(square: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|row| std::array::from_fn(|column| square[column][row]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_moves_every_wanted_float_and_unpacking_brings_it_back() {
        for (count, rows) in [(7, vec![3, 0, NONE, 1, 4, 2]), (8, (0..9).rev().collect()), (4, vec![0])] {
            let (lanes, width) = (Lanes { count, stride: rows.len() + 3 }, 9);
            let weight: Vec<f32> = (0..count * lanes.stride).map(|at| at as f32).collect();
            let mut packed = vec![-1.0; 9 * width];
            pack(&weight, lanes, &rows, &mut packed, width);
            let mut back = vec![-1.0; weight.len()];
            unpack(&packed, width, lanes, &rows, |at, values| back[at..at + values.len()].copy_from_slice(values));
            for lane in 0..count {
                for (q, row) in rows.iter().enumerate() {
                    let (at, wanted) = (lane * lanes.stride + q, *row != NONE);
                    assert!(!wanted || packed[row * width + lane] == weight[at], "lane {lane} row {row}");
                    assert_eq!(back[at], if wanted { weight[at] } else { -1.0 }, "lane {lane} row {row}");
                }
            }
            let moved = packed.iter().filter(|value| **value >= 0.0).count();
            assert_eq!(moved, count * rows.iter().filter(|row| **row != NONE).count());
        }
    }
}
