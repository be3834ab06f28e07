//! What stands in FROM.

use super::Of::{self, Bool, Int, Json, Text};
use super::{Common, Generator, Scope};

/// What follows an item, and what it adds to the scope.
fn renamed(alias: &str, columns: &[Of]) -> (String, Scope) {
    let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
    let scope = names
        .iter()
        .zip(columns)
        .map(|(name, of)| (alias.to_owned(), name.clone(), *of))
        .collect();
    (format!(" AS {alias}({})", names.join(", ")), scope)
}

impl Generator {
    /// An item of FROM, and what it adds to the scope.
    pub(super) fn item(
        &mut self,
        depth: usize,
        scope: &Scope,
        common: &[Common],
    ) -> (String, Scope) {
        match self.below(if depth == 0 { 60 } else { 100 }) {
            42..=47 if !common.is_empty() => {
                let (name, columns) = common[self.below(common.len())].clone();
                let (renaming, scope) = renamed(&self.name("t"), &columns);
                (format!("{name}{renaming}"), scope)
            }
            0..=47 => self.aliased(),
            48..=59 => self.function(depth.min(1), scope),
            60..=84 => {
                let columns = self.kinds();
                let query = self.select(depth - 1, &columns, &Vec::new(), common);
                let (renaming, scope) = renamed(&self.name("t"), &columns);
                (format!("({query}){renaming}"), scope)
            }
            _ => {
                let columns = self.kinds();
                let query = self.select(depth - 1, &columns, scope, common);
                let (renaming, scope) = renamed(&self.name("t"), &columns);
                (format!("LATERAL ({query}){renaming}"), scope)
            }
        }
    }

    /// Rows out of values.
    fn function(&mut self, depth: usize, scope: &Scope) -> (String, Scope) {
        let alias = self.name("t");
        let text = self.expression(Text, depth, scope);
        let json = self.expression(Json, depth, scope);
        let (call, columns): (String, &[Of]) = match self.below(14) {
            0 => ("generate_series(1, 3)".into(), &[Int]),
            1 => ("(VALUES (1, 'p'), (2, NULL))".into(), &[Int, Text]),
            2 => (format!("LATERAL unnest(ARRAY[{text}, 'z'])"), &[Text]),
            3 => (
                format!(
                    "LATERAL jsonb_each(CASE jsonb_typeof({json}) WHEN 'object' THEN {json} ELSE '{{}}' END)"
                ),
                &[Text, Json],
            ),
            4 => (
                format!("LATERAL ROWS FROM (generate_series(1, 2), unnest(ARRAY[{text}]))"),
                &[Int, Text],
            ),
            5 => (
                format!("LATERAL unnest(ARRAY[{text}, NULL]) WITH ORDINALITY"),
                &[Text, Int],
            ),
            6 => (
                format!("LATERAL regexp_split_to_table({text}, '[ @]')"),
                &[Text],
            ),
            7 => (
                format!(
                    "XMLTABLE('/r/a' PASSING xmlelement(name r, xmlelement(name a, {text})) COLUMNS x text PATH '.', n FOR ORDINALITY)"
                ),
                &[Text, Int],
            ),
            8 => (format!("LATERAL string_to_table({text}, 'e')"), &[Text]),
            9 => (
                format!("JSON_TABLE({json}, '$' COLUMNS (x text PATH '$.mail', n int PATH '$.n'))"),
                &[Text, Int],
            ),
            10 => {
                let given = format!("jsonb_build_array(jsonb_build_object('a', {text}, 'b', 3))");
                let call = format!("LATERAL jsonb_to_recordset({given})");
                let scope = vec![
                    (alias.clone(), "a".into(), Text),
                    (alias.clone(), "b".into(), Int),
                ];
                return (format!("{call} AS {alias}(a text, b integer)"), scope);
            }
            11 => {
                let main = self.main();
                let call = format!(
                    "LATERAL json_populate_record(NULL::{main}, json_build_object('id', 1, 'region', {text}))"
                );
                let scope = vec![
                    (alias.clone(), "id".into(), Int),
                    (alias.clone(), "region".into(), Text),
                ];
                return (format!("{call} AS {alias}"), scope);
            }
            12 => {
                let main = self.main();
                let call = format!("unnest((SELECT array_agg(w ORDER BY w.id) FROM {main} w))");
                let scope = vec![
                    (alias.clone(), "id".into(), Int),
                    (alias.clone(), "region".into(), Text),
                ];
                return (format!("{call} AS {alias}"), scope);
            }
            _ => (
                format!("LATERAL (SELECT {text}, {text} IS NULL)"),
                &[Text, Bool],
            ),
        };
        let (renaming, scope) = renamed(&alias, columns);
        (format!("{call}{renaming}"), scope)
    }

    pub(super) fn from(
        &mut self,
        depth: usize,
        outer: &Scope,
        common: &[Common],
    ) -> (String, Scope) {
        let (mut text, mut scope) = self.item(depth, outer, common);
        let more = [0, 0, 0, 1, 1][self.below(5)];
        for _ in 0..more {
            let (item, added) = self.item(depth.min(1), outer, common);
            let mut all: Scope = scope.iter().chain(&added).cloned().collect();
            let condition = self.expression(Bool, 1, &all);
            let ids = |scope: &Scope| scope.iter().filter(|(_, name, _)| name == "id").count();
            let shared = ids(&scope) == 1 && ids(&added) == 1;
            text = match self.below(11) {
                0 => format!("{text}, {item}"),
                1 => format!("{text} LEFT JOIN {item} ON {condition}"),
                2 => format!("{text} FULL JOIN {item} ON true"),
                3 if shared => format!("{text} JOIN {item} USING (id)"),
                4 if shared => {
                    let alias = self.name("u");
                    all.push((alias.clone(), "id".into(), Int));
                    format!("{text} JOIN {item} USING (id) AS {alias}")
                }
                5 => format!("{text} NATURAL JOIN {item}"),
                6 => format!("{text} RIGHT JOIN {item} ON {condition}"),
                7 => format!("{text} CROSS JOIN {item}"),
                8 => format!("({text} NATURAL LEFT JOIN {item})"),
                9 => {
                    let alias = self.name("v");
                    format!(
                        "{text} JOIN ({item} CROSS JOIN (VALUES (1)) {alias}(one)) ON {condition}"
                    )
                }
                _ => format!("{text} JOIN {item} ON {condition}"),
            };
            scope = all;
        }
        (text, scope)
    }
}
