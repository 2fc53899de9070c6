//! The difference of two texts, line by line.

use std::fmt::Write as _;

/// The lines with `-` (only on the left), `+` (only on the right) or a blank; none if both texts
/// are equal.
pub(crate) fn lines(left: &str, right: &str) -> Option<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    if a == b {
        return None;
    }
    let common = common_lengths(&a, &b);
    let (mut i, mut j, mut diff) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        let (sign, line) = if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
            (' ', a[i - 1])
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            i += 1;
            ('-', a[i - 1])
        } else {
            j += 1;
            ('+', b[j - 1])
        };
        let _ = writeln!(diff, "{sign} {line}");
    }
    Some(diff)
}

/// The length of the longest common subsequence of each pair of suffixes.
fn common_lengths(a: &[&str], b: &[&str]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    common
}

#[test]
fn what_differs_is_marked() {
    assert_eq!(lines("a\nb", "a\nb\n"), None);
    assert_eq!(lines("a\nb\nc", "a\nx\nc\nd").unwrap(), "  a\n- b\n+ x\n  c\n+ d\n");
}
