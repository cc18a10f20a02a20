//! The GPU side of every operation without a GPU: the kernels run on the host, thread by thread, and must give what the
//! CPU side gives.

mod affine;
mod attention;
mod augment;
mod channels;
mod check;
mod conv;
mod device;
mod drop;
mod elementwise;
mod emulator;
mod gan;
mod gate;
mod group_norm;
mod inference;
mod layer_norm;
mod limit;
mod linear;
mod loss;
mod memory;
mod norm;
mod optim;
mod pairs;
mod pool;
mod recorded;
mod reshape;
mod room;
mod tape;
mod train;
