//! `name=value` arguments.

use std::collections::HashMap;
use std::str::FromStr;

type Error = Box<dyn std::error::Error>;

/// The arguments of one command.
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// # Errors
    /// A word without `=`.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, Error> {
        words
            .map(|word| match word.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(format!("{word:?} is not of the form name=value").into()),
            })
            .collect::<Result<_, Error>>()
            .map(Arguments)
    }

    /// The text of an argument that must be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name}= is missing").into())
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// It is missing or not a number of that type.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("{name}={text} is not a number").into())
    }
}
