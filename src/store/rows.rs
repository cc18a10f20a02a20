//! Free SQL, read-only: `runner query`.

use super::{Store, Value, open};
use crate::error::{Context, Error, Result};
use rusqlite::{
    Connection, ErrorCode,
    hooks::{AuthAction, AuthContext, Authorization},
};
use std::fmt;

/// What a query returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

impl Store {
    /// Runs one SQL statement that only reads; everything else is refused before it begins.
    pub fn query(&self, sql: &str) -> Result<Rows> {
        let mut db = open::for_reading(&self.path)?;
        db.authorizer(Some(only_reading)).context(|| self.path.display().to_string())?;
        select(&db, sql).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
                Error::user("`query` only reads: SELECT, WITH, VALUES or EXPLAIN; nothing was changed")
            }
            Some(ErrorCode::Unknown | ErrorCode::ApiMisuse) => Error::user(format!("the query is wrong: {error}")),
            Some(_) => error.into(),
            None => {
                Error::user(format!("the query is wrong: {error}; one statement, with a result, and no parameters"))
            }
        })
    }
}

fn select(db: &Connection, sql: &str) -> rusqlite::Result<Rows> {
    let mut statement = db.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(String::from).collect();
    let width = columns.len();
    let rows = statement.query_map([], |row| (0..width).map(|i| row.get(i)).collect())?.collect::<Result<_, _>>()?;
    Ok(Rows { columns, rows })
}

/// SELECT in all its forms, and the pragmas that describe the schema.
fn only_reading(context: AuthContext) -> Authorization {
    let reads = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Pragma { pragma_name, .. } => {
            ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "user_version", "application_id"]
                .contains(&pragma_name)
        }
        _ => false,
    };
    if reads { Authorization::Allow } else { Authorization::Deny }
}

/// A table for the terminal: numbers to the right, text to the left.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let width = |column: usize| {
            let widest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(self.columns[column].chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let right = |column: usize| {
            self.rows.iter().all(|row| !matches!(row.get(column), Some(Value::Text(_) | Value::Blob(_))))
        };
        let rights: Vec<bool> = (0..self.columns.len()).map(right).collect();
        for row in std::iter::once(&self.columns).chain(&cells) {
            let line: Vec<String> = (row.iter().zip(&widths).zip(&rights))
                .map(
                    |((cell, width), right)| if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") },
                )
                .collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.replace(['\n', '\r', '\t'], " "),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}
