//! Where a command computes, and in what format.

use crate::{
    error::{Error, Result},
    exec,
    spec::Precision,
    tensor::{
        Device,
        gpu::{self, Queue},
    },
};

#[derive(clap::Args)]
pub struct DeviceArgs {
    /// auto (the first CUDA device, the CPU where there is none), cpu, cuda:0, ..
    #[arg(long, default_value = "auto")]
    device: String,
    /// Number format: auto (bf16 on CUDA, f32 on the CPU), f32, tf32, bf16 or f16
    #[arg(long, default_value = "auto")]
    precision: String,
}

/// A device that is open, and the format it computes in: not `auto`.
pub struct Computer {
    pub device: Device,
    pub precision: Precision,
}

impl DeviceArgs {
    pub fn open(&self) -> Result<Computer> {
        let device = exec::open_device(&self.device)?;
        let precision = self.precision(Queue::of_device(&device)?.is_none())?;
        gpu::set_mode(&device, gpu::Mode { tf32: precision == Precision::Tf32, deterministic: false })?;
        Ok(Computer { device, precision })
    }

    /// What the name stands for on a device.
    fn precision(&self, cpu: bool) -> Result<Precision> {
        let name = &self.precision;
        let named: Precision = serde_json::from_value(name.as_str().into())
            .map_err(|_| Error::user(format!("--precision {name}: known are auto, f32, tf32, bf16 and f16")))?;
        match named {
            Precision::Auto if cpu => Ok(Precision::F32),
            Precision::Auto => Ok(Precision::Bf16),
            Precision::F32 => Ok(named),
            _ if cpu => Err(Error::user(format!("--precision {name} needs a CUDA device; the CPU computes in f32"))),
            _ => Ok(named),
        }
    }
}
