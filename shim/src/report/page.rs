//! The proof as one page: no network, no external asset. The document of [`super::proof_json`] lies
//! in it; what the page shows, its script makes of that.

use super::proof_json;
use crate::proof::Proof;

const TEMPLATE: &str = include_str!("page.html");
/// Where the document comes.
const PLACE: &str = "/*DOCUMENT*/null";

/// The whole page.
pub fn proof(proof: &Proof) -> String {
    // Within a script element only `</` and `<!--` end it or change how it is read.
    let document = proof_json::proof(proof).replace('<', "\\u003c");
    TEMPLATE.replacen(PLACE, document.trim_end(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_one_place() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
    }
}
