//! The operations outside convolution: values and gradients against plain double-precision references and their finite
//! differences, against torch's numbers, and bit for bit under any number of threads.

mod bias;
mod check;
mod elementwise;
mod linear;
mod loss;
mod norm;
mod pool;
mod threads;
mod torch;
mod upsample;
