//! The operations outside convolution: values and gradients against plain double-precision references and their finite
//! differences, against torch's numbers, and bit for bit under any number of threads.

mod attention;
mod bias;
mod check;
mod elementwise;
mod group_norm;
mod layer_norm;
mod linear;
mod loss;
mod norm;
mod pad;
mod pairs;
mod pool;
mod threads;
mod torch;
mod upsample;
