//! The matrix product of the `gemm` crate behind checked views.

/// A matrix inside a slice, any strides.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A matrix to write, row after row at a stride.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> Matrix<'a> {
    /// All of `values`, row after row.
    pub fn packed(values: &'a [f32], rows: usize) -> Self {
        let columns = values.len() / rows.max(1);
        Self::rows(values, rows, columns, columns)
    }

    /// Rows that start `stride` apart.
    ///
    /// # Panics
    /// Where `values` does not hold them.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(values.len(), rows, columns, stride), "a matrix outside its slice");
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

impl<'a> MatrixMut<'a> {
    /// Rows that start `stride` apart.
    ///
    /// # Panics
    /// Where `values` does not hold them, or they overlap.
    pub fn rows(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            fits(values.len(), rows, columns, stride) && (columns <= stride || rows < 2),
            "a matrix outside its slice"
        );
        Self { values, rows, columns, row_stride: stride }
    }
}

fn fits(len: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * stride + columns <= len
}

/// `out = a b`, or `out += a b` where `add`. On the calling thread alone, so that the bits never depend on threads.
///
/// # Panics
/// Where the sizes do not fit together.
pub fn product(out: MatrixMut, a: &Matrix, b: &Matrix, add: bool) {
    assert_eq!((out.rows, out.columns, a.columns), (a.rows, b.columns, b.rows), "the sizes of a matrix product");
    // SAFETY: each view lies inside its slice (checked where it was made), `out` is borrowed for writing and its rows do
    // not overlap, and the sizes fit together.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
    }
}
