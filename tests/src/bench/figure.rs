//! One measured figure, as it is passed on to `cargo xtask bench`: a line of JSON.

use anyhow::Result;
use serde::Serialize;

/// A figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure<'a> {
    /// What is measured: figures of one measure are comparable.
    pub measure: &'a str,
    /// Who was measured.
    pub subject: &'a str,
    /// In this unit.
    pub unit: &'a str,
    /// How much.
    pub value: f64,
}

impl Figure<'_> {
    /// Prints it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}
