use super::output;
use crate::{error::Result, store::Store};
use std::path::PathBuf;

/// Ask the store in SQL, read-only; its tables are described by `--tables`
#[derive(clap::Args)]
pub struct Args {
    /// One SQL statement, e.g. "select run_id, max(value) from metrics where name = 'auc' group by run_id"
    #[arg(required_unless_present = "tables")]
    sql: Option<String>,
    /// Print the tables and what their columns mean
    #[arg(long)]
    tables: bool,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<u8> {
    let Some(sql) = args.sql.as_deref().filter(|_| !args.tables) else {
        output::print(crate::store::SCHEMA)?;
        return Ok(0);
    };
    output::print(Store::read(&args.out.join("runner.sqlite"))?.query(sql)?)?;
    Ok(0)
}
