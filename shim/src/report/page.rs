//! The proof as one page: no network, no external asset. The document of [`super::proof_json`] lies
//! in it; what the page shows, its script makes of that.

use super::proof_json;
use crate::proof::Proof;

const TEMPLATE: &str = include_str!("page.html");
/// Where the document comes.
const PLACE: &str = "/*DOCUMENT*/null";

/// The whole page.
pub fn proof(proof: &Proof) -> String {
    of(&proof_json::proof(proof))
}

/// The page of a JSON document: one of [`super::proof_json`], of this run or an earlier one.
pub fn of(document: &str) -> String {
    // Within a script element only `</` and `<!--` end it or change how it is read.
    let document = document.replace('<', "\\u003c");
    TEMPLATE.replacen(PLACE, document.trim_end(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_one_place() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
    }

    /// Of a page that is opened from a file, every address is a leak.
    #[test] // seen to fail with a stylesheet of https://example.org, and with @import
    fn the_template_names_no_other_file() {
        let names = ["http:", "https:", "//cdn", "src=", "@import", "url(", "<link", "<iframe"];
        let found: Vec<_> = names.into_iter().filter(|name| TEMPLATE.contains(name)).collect();
        assert_eq!(found, [""; 0]);
    }

    /// The committed example is what the template of today makes of its document.
    #[test] // seen to fail with a blank more in the template
    fn the_example_is_of_this_template() {
        let example = include_str!("../../examples/attribute.html");
        let begins = "<script type=\"application/json\" id=\"document\">";
        let (_, rest) = example.split_once(begins).unwrap();
        let (document, _) = rest.split_once("</script>").unwrap();
        assert!(of(document) == example, "make it again: README, Who blocked what");
    }

    #[test] // seen to fail without the replacement
    fn a_document_cannot_end_its_element() {
        let page = of(r#"{"note":"</script><!-- <script>"}"#);
        assert!(page.contains(r#"{"note":"\u003c/script>\u003c!-- \u003cscript>"}"#));
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
    }
}
