//! One pass from a source image to the positions of a target image, cut into regions whose pixels all see the same taps.

use super::{
    axis::{Axis, Span},
    geometry::Geometry,
    kernel::Run,
};
use std::{borrow::Cow, ops::Range};

/// Height, width and channels of all groups.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub size: [usize; 2],
    pub channels: usize,
}

impl Extent {
    pub fn image(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }
}

/// Which positions of the source make which positions of the target.
#[derive(Clone, Debug)]
pub struct Pass {
    pub batch: usize,
    pub groups: usize,
    pub rows: Axis,
    pub columns: Axis,
    pub source: Extent,
    pub target: Extent,
    /// The kernel's position for each pair of taps, rows first.
    pub taps: Vec<usize>,
    /// Whether the source is an output's gradient.
    pub backward: bool,
}

/// Images in memory, at any distances.
pub struct View<'a> {
    pub values: Cow<'a, [f32]>,
    pub image: usize,
    pub row: usize,
    pub pixel: usize,
}

/// A rectangle of the target whose pixels all see the same taps.
#[derive(Debug)]
pub struct Region {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    pub runs: Vec<Run>,
    /// Floats of each run.
    pub length: usize,
}

/// A loop over pixels: how many, and how far apart in source and target.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    pub count: usize,
    pub source: usize,
    pub target: usize,
}

/// Pixels in three nested loops, outermost first, from a first place in source and target.
#[derive(Clone, Copy, Debug)]
pub struct Pixels {
    pub loops: [Loop; 3],
    pub source: usize,
    pub target: usize,
}

/// Some pixels in a line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub count: usize,
    pub source: usize,
    pub source_step: usize,
    pub target: usize,
    pub target_step: usize,
}

/// A result that several threads write at places that do not overlap.
#[derive(Clone, Copy)]
pub struct Shared {
    start: *mut f32,
    len: usize,
}

// SAFETY: only an address; whoever writes through it sees to it that every element belongs to one task.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(values: &mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len() }
    }

    /// The address of an element.
    ///
    /// # Panics
    /// Where the `reach` floats from there are not inside.
    pub fn at(self, place: usize, reach: usize) -> *mut f32 {
        assert!(place + reach <= self.len, "a convolution writes behind its result");
        self.start.wrapping_add(place)
    }
}

/// A result made by `write`.
///
/// # Safety
/// `write` must write every element.
pub unsafe fn written(len: usize, write: impl FnOnce(Shared)) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    if cfg!(test) {
        values.resize(len, f32::NAN); // shows what was not written
    }
    write(Shared { start: values.as_mut_ptr(), len });
    // SAFETY: there is room for `len`, and the caller wrote them.
    unsafe { values.set_len(len) }
    values
}

impl Pass {
    /// From the input to the output.
    pub fn forward(g: &Geometry) -> Self {
        let source = Extent { size: g.input, channels: g.inputs };
        let target = Extent { size: g.output, channels: g.outputs };
        Self::new(g, Axis::forward(g, 0), Axis::forward(g, 1), source, target, false)
    }

    /// From the output's gradient to the input's: together they write every element once.
    pub fn backward(g: &Geometry) -> Vec<Self> {
        let source = Extent { size: g.output, channels: g.outputs };
        let target = Extent { size: g.input, channels: g.inputs };
        let columns = Axis::backward(g, 1);
        let pass = |rows: &Axis, columns: &Axis| Self::new(g, rows.clone(), columns.clone(), source, target, true);
        Axis::backward(g, 0).iter().flat_map(|rows| columns.iter().map(move |columns| pass(rows, columns))).collect()
    }

    fn new(g: &Geometry, rows: Axis, columns: Axis, source: Extent, target: Extent, backward: bool) -> Self {
        let place = |row: usize, column: usize| row * g.window.kernel[1] + column;
        let taps = (rows.taps.iter())
            .flat_map(|row| columns.taps.iter().map(move |column| place(row.kernel, column.kernel)))
            .collect();
        Self { batch: g.batch, groups: g.groups, rows, columns, source, target, taps, backward }
    }

    /// Floats of the whole source and target.
    pub fn sizes(&self) -> (usize, usize) {
        (self.batch * self.source.image(), self.batch * self.target.image())
    }

    /// Source channels of one group.
    pub fn inputs(&self) -> usize {
        self.source.channels / self.groups
    }

    /// Target channels of one group.
    pub fn outputs(&self) -> usize {
        self.target.channels / self.groups
    }

    /// The source where it lies.
    pub fn view<'a>(&self, source: &'a [f32]) -> View<'a> {
        let Extent { size: [_, width], channels } = self.source;
        View { values: source.into(), image: self.source.image(), row: width * channels, pixel: channels }
    }

    /// A copy whose rows and images are moved apart: at distances of a power of two they would meet in a few cache sets.
    pub fn apart<'a>(&self, source: &[f32]) -> View<'a> {
        const LINE: usize = 16;
        let Extent { size: [height, width], channels } = self.source;
        let pixel = if channels.is_multiple_of(256) { channels + LINE } else { channels };
        let row = width * pixel + LINE;
        let image = height * row + LINE;
        let mut values = vec![0.0; source.len() / self.source.image().max(1) * image];
        for (source, to) in source.chunks_exact(self.source.image()).zip(values.chunks_exact_mut(image)) {
            for (source, to) in source.chunks_exact(width * channels).zip(to.chunks_exact_mut(row)) {
                match pixel == channels {
                    true => to[..source.len()].copy_from_slice(source),
                    false => (source.chunks_exact(channels).zip(to.chunks_exact_mut(pixel)))
                        .for_each(|(source, to)| to[..channels].copy_from_slice(source)),
                }
            }
        }
        View { values: values.into(), image, row, pixel }
    }

    /// The regions, each read in runs of `length` channels, or of whole rows of taps where those touch.
    pub fn regions(&self, view: &View, length: usize) -> Vec<Region> {
        let merge = self.columns.dense() && view.pixel == length;
        let columns = self.columns.spans();
        let region = |rows: &Span, columns: &Span| self.region(view, rows, columns, length, merge);
        self.rows.spans().iter().flat_map(|rows| columns.iter().map(move |columns| region(rows, columns))).collect()
    }

    fn region(&self, view: &View, rows: &Span, columns: &Span, length: usize, merge: bool) -> Region {
        let run = |row: usize, column: usize| Run {
            source: self.rows.taps[row].shift * view.row as isize
                + self.columns.taps[column].shift * view.pixel as isize,
            weights: (row * self.columns.taps.len() + column) * length,
        };
        let together = if merge { columns.taps.len().max(1) } else { 1 };
        let starts = |row: usize| columns.taps.clone().step_by(together).map(move |column| (row, column));
        let runs = rows.taps.clone().flat_map(starts).map(|(row, column)| run(row, column)).collect();
        let (rows, columns) = (rows.positions.clone(), columns.positions.clone());
        Region { rows, columns, runs, length: together * length }
    }

    /// The region's pixels of some images; the first of them is the `view`'s first plus `skip`.
    pub fn pixels(&self, view: &View, region: &Region, images: Range<usize>, skip: usize) -> Pixels {
        let (row, column) = (region.rows.start, region.columns.start);
        let source = skip * view.image + row * self.rows.step * view.row + column * self.columns.step * view.pixel;
        let (row, column) = (self.rows.first + self.rows.every * row, self.columns.first + self.columns.every * column);
        let width = self.target.size[1];
        let target = images.start * self.target.image() + (row * width + column) * self.target.channels;
        let columns = Loop {
            count: region.columns.len(),
            source: self.columns.step * view.pixel,
            target: self.columns.every * self.target.channels,
        };
        let rows = Loop {
            count: region.rows.len(),
            source: self.rows.step * view.row,
            target: self.rows.every * width * self.target.channels,
        };
        let images = Loop { count: images.len(), source: view.image, target: self.target.image() };
        let (rows, columns) = join(rows, columns);
        let (images, columns) = if rows.count == 1 { join(images, columns) } else { (images, columns) };
        Pixels { loops: [images, rows, columns], source, target }
    }
}

/// Two loops as one, where the outer goes on just where the inner ends.
fn join(outer: Loop, inner: Loop) -> (Loop, Loop) {
    let follows = outer.source == inner.count * inner.source && outer.target == inner.count * inner.target;
    if inner.count == 1 {
        (Loop { count: 1, ..outer }, outer)
    } else if follows {
        (Loop { count: 1, ..outer }, Loop { count: outer.count * inner.count, ..inner })
    } else {
        (outer, inner)
    }
}

impl Pixels {
    /// Floats from the first to the last pixel of the target.
    pub fn target_reach(&self) -> usize {
        self.loops.iter().map(|l| (l.count - 1) * l.target).sum()
    }

    /// Panics unless every float the region's runs read, `skip` and more from each pixel, is inside `view` and every
    /// weight before `weights`.
    pub fn check(&self, region: &Region, view: &View, skip: usize, weights: usize) {
        let (first, last) = (self.source + skip, self.source + skip + self.source_reach());
        for run in &region.runs {
            assert!(first as isize + run.source >= 0, "a convolution reads before its source");
            let end = last as isize + run.source + region.length as isize;
            assert!(end <= view.values.len() as isize, "a convolution reads behind its source");
            assert!(run.weights + region.length <= weights, "a convolution reads behind its weights");
        }
    }

    fn source_reach(&self) -> usize {
        self.loops.iter().map(|l| (l.count - 1) * l.source).sum()
    }

    /// Covers the pixels with lines of at most `most`, along the loop that needs the fewest: columns, if it is close,
    /// because neighbours share cache lines.
    pub fn lines(&self, most: usize, mut visit: impl FnMut(Line)) {
        let pixels: usize = self.loops.iter().map(|l| l.count).product();
        let cost = |at: usize| {
            let l = &self.loops[at];
            pixels / l.count * l.count.div_ceil(most) * [23, 21, 20][at]
        };
        let long = (0..3).min_by_key(|&at| cost(at)).unwrap_or(2);
        let (inner, [a, b]) = (self.loops[long], [[1, 2], [0, 2], [0, 1]][long]);
        let parts = inner.count.div_ceil(most);
        for a in self.loops[a].steps() {
            for b in self.loops[b].steps() {
                for part in 0..parts {
                    let (start, end) = (part * inner.count / parts, (part + 1) * inner.count / parts);
                    visit(Line {
                        count: end - start,
                        source: self.source + a.0 + b.0 + start * inner.source,
                        source_step: inner.source,
                        target: self.target + a.1 + b.1 + start * inner.target,
                        target_step: inner.target,
                    });
                }
            }
        }
    }
}

impl Loop {
    /// The places in source and target.
    fn steps(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).map(move |at| (at * self.source, at * self.target))
    }
}
