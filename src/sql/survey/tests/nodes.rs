//! Every field of every node in which something can stand that is surveyed.
//!
//! The walker underneath leaves some fields out ("deemed uninteresting"), and a later
//! one may leave out others: so each is tried. What is to be seen is named for what it
//! is, and the survey has to find each as often as its text holds it.

use pg_raw_parse::parse;

use crate::sql::canonical::query_of;
use crate::sql::survey::{Rest, Survey, survey};

/// Statements, by the node that they try.
const NODES: &[(&str, &str)] = &[
    (
        "SelectStmt.distinctClause",
        "SELECT DISTINCT ON (a_call(a_column), a_column) 1 FROM a_relation",
    ),
    (
        "SelectStmt.targetList",
        "SELECT a_call(a_column), a_column::a_type FROM a_relation",
    ),
    (
        "SelectStmt.fromClause",
        "SELECT 1 FROM a_relation, ONLY a_relation x, a_call() y, (SELECT 1 FROM a_relation) z",
    ),
    (
        "SelectStmt.whereClause",
        "SELECT 1 FROM a_relation WHERE a_call(a_column)",
    ),
    (
        "SelectStmt.groupClause",
        "SELECT 1 FROM a_relation GROUP BY a_call(a_column), a_column",
    ),
    (
        "SelectStmt.havingClause",
        "SELECT 1 FROM a_relation HAVING a_call(a_column)",
    ),
    (
        "SelectStmt.windowClause",
        "SELECT 1 FROM a_relation WINDOW w AS (PARTITION BY a_call(a_column))",
    ),
    (
        "SelectStmt.valuesLists",
        "VALUES (1, a_call()), ((SELECT a_column FROM a_relation), 2)",
    ),
    (
        "SelectStmt.sortClause",
        "SELECT 1 FROM a_relation ORDER BY a_call(a_column), a_column",
    ),
    (
        "SelectStmt.limitOffset",
        "SELECT 1 FROM a_relation OFFSET a_call() + (SELECT a_column FROM a_relation)",
    ),
    (
        "SelectStmt.limitCount",
        "SELECT 1 FROM a_relation LIMIT a_call() + (SELECT a_column FROM a_relation)",
    ),
    (
        "SelectStmt with ties",
        "SELECT 1 FROM a_relation ORDER BY a_column FETCH FIRST (a_call()) ROWS WITH TIES",
    ),
    (
        "SelectStmt.withClause",
        "WITH x AS (SELECT a_call(a_column) FROM a_relation), y AS (SELECT 1 FROM a_relation) SELECT 1",
    ),
    (
        "SelectStmt.larg, rarg",
        "SELECT a_call() FROM a_relation UNION ALL (SELECT a_column FROM a_relation EXCEPT SELECT a_call())",
    ),
    (
        "WithClause within a set operation",
        "SELECT 1 UNION (WITH x AS (SELECT a_call() FROM a_relation) SELECT 1)",
    ),
    (
        "CommonTableExpr.ctequery",
        "WITH x AS (UPDATE a_relation SET b = a_call(a_column) RETURNING a_column) SELECT 1",
    ),
    (
        "CommonTableExpr.search_clause",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT a_column FROM a_relation) SEARCH DEPTH FIRST BY n SET o SELECT 1",
    ),
    (
        "CommonTableExpr.cycle_clause",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT a_column FROM a_relation) CYCLE n SET c TO a_type '1' DEFAULT a_type '2' USING p SELECT 1",
    ),
    (
        "CommonTableExpr.cycle_clause, modified",
        "WITH RECURSIVE x(n) AS (SELECT 1) CYCLE n SET c TO a_type(a_call()) '1' DEFAULT a_type '2' USING p SELECT 1",
    ),
    (
        "InsertStmt",
        "INSERT INTO a_relation (b[a_call()], c) SELECT a_column, 1 FROM a_relation",
    ),
    (
        "InsertStmt.onConflictClause",
        "INSERT INTO a_relation VALUES (1) ON CONFLICT (a_call(a_column)) WHERE a_call(a_column) DO UPDATE SET b = a_call(a_column), (c, d) = (SELECT a_column, 1 FROM a_relation) WHERE a_call(a_column)",
    ),
    (
        "IndexElem",
        "INSERT INTO a_relation VALUES (1) ON CONFLICT ((a_column + a_call()) COLLATE \"C\" text_ops) DO NOTHING",
    ),
    (
        "InsertStmt.returningClause",
        "INSERT INTO a_relation VALUES (1) RETURNING a_column, a_call(a_column)",
    ),
    (
        "ReturningClause.options",
        "INSERT INTO a_relation VALUES (1) RETURNING WITH (OLD AS o, NEW AS n) a_call(a_column)",
    ),
    (
        "InsertStmt.withClause",
        "WITH x AS (SELECT a_call()) INSERT INTO a_relation WITH y AS (SELECT a_call()) SELECT a_column FROM y",
    ),
    (
        "DeleteStmt",
        "WITH x AS (SELECT a_call()) DELETE FROM a_relation USING a_relation b, a_call() c WHERE a_column RETURNING a_column",
    ),
    (
        "UpdateStmt",
        "WITH x AS (SELECT a_call()) UPDATE a_relation SET b[a_call()] = a_call(a_column) FROM a_relation c WHERE a_column RETURNING a_column",
    ),
    (
        "MultiAssignRef",
        "UPDATE a_relation SET (b, c) = (SELECT a_column, a_call() FROM a_relation), (d, e) = ROW (a_column, a_call())",
    ),
    (
        "MergeStmt",
        "WITH x AS (SELECT a_call()) MERGE INTO a_relation USING (SELECT a_column FROM a_relation) s ON a_call(a_column) WHEN MATCHED AND a_call(a_column) THEN UPDATE SET b = a_call(a_column) WHEN NOT MATCHED BY SOURCE AND a_call() THEN DELETE WHEN NOT MATCHED THEN INSERT (b) VALUES (a_call(a_column)) RETURNING merge_action(), a_column",
    ),
    (
        "A_Expr",
        "SELECT a_call() + a_column, a_column IN (a_call(), 1), a_call() BETWEEN a_column AND a_column, a_column IS DISTINCT FROM a_call(), NULLIF(a_column, a_call())",
    ),
    (
        "A_Expr of arrays",
        "SELECT a_column = ANY (a_call()), a_column > ALL (ARRAY[a_call()]), a_column LIKE a_call() ESCAPE 'x'",
    ),
    ("BoolExpr", "SELECT a_column AND NOT (a_call() OR a_column)"),
    (
        "NullTest, BooleanTest",
        "SELECT a_call() IS NULL, a_column IS NOT UNKNOWN",
    ),
    (
        "FuncCall.args",
        "SELECT a_call(a_column, VARIADIC a_call()), a_call(n => a_column), a_call(n := a_call())",
    ),
    (
        "FuncCall.agg_order",
        "SELECT a_call(1 ORDER BY a_call(a_column)), a_call() WITHIN GROUP (ORDER BY a_column)",
    ),
    (
        "FuncCall.agg_filter",
        "SELECT a_call(*) FILTER (WHERE a_call(a_column))",
    ),
    (
        "FuncCall.over",
        "SELECT a_call() OVER (PARTITION BY a_column ORDER BY a_call(a_column) ROWS BETWEEN a_call() PRECEDING AND a_call() FOLLOWING EXCLUDE TIES)",
    ),
    (
        "WindowDef of a name",
        "SELECT a_call() OVER (w ORDER BY a_column) FROM a_relation WINDOW w AS (PARTITION BY a_call())",
    ),
    (
        "A_Indices, A_Indirection",
        "SELECT (a_call())[a_column], (a_column)[a_call():a_column], (a_call()).f[a_call()]",
    ),
    (
        "A_ArrayExpr",
        "SELECT ARRAY[a_column, a_call()], ARRAY[[a_column], [a_call()]], ARRAY(SELECT a_column FROM a_relation)",
    ),
    (
        "RowExpr",
        "SELECT ROW(a_column, a_call()), (a_column, a_call()) = (SELECT a_column, 1 FROM a_relation)",
    ),
    (
        "CaseExpr",
        "SELECT CASE a_column WHEN a_call() THEN a_column ELSE a_call() END, CASE WHEN a_call() THEN 1 END",
    ),
    (
        "CoalesceExpr, MinMaxExpr",
        "SELECT COALESCE(a_column, a_call()), GREATEST(a_column, a_call()), LEAST(a_call())",
    ),
    (
        "SubLink",
        "SELECT EXISTS (SELECT a_call() FROM a_relation), a_column IN (SELECT a_column FROM a_relation), a_call() = ALL (SELECT 1 FROM a_relation), (SELECT a_call())",
    ),
    (
        "TypeCast, TypeName",
        "SELECT a_call()::a_type, CAST(a_column AS a_type[]), a_type '1', a_column::a_type(1), a_column::other.a_type",
    ),
    (
        "TypeName.typmods",
        "SELECT 1::a_type((SELECT a_column FROM a_relation), a_call())",
    ),
    (
        "CollateClause",
        "SELECT a_call() COLLATE \"C\", (SELECT a_column FROM a_relation) COLLATE other.\"D\"",
    ),
    (
        "GroupingSet, GroupingFunc",
        "SELECT GROUPING(a_column, a_call()) FROM a_relation GROUP BY GROUPING SETS ((a_column), ROLLUP (a_call(), a_column), CUBE (a_call()), ())",
    ),
    (
        "SortBy",
        "SELECT 1 FROM a_relation ORDER BY a_call(a_column) USING OPERATOR(pg_catalog.<) NULLS FIRST",
    ),
    (
        "JoinExpr",
        "SELECT 1 FROM a_relation JOIN a_relation b ON a_call(a_column) LEFT JOIN a_relation c USING (x) CROSS JOIN (a_relation NATURAL JOIN a_relation d) j",
    ),
    (
        "RangeSubselect",
        "SELECT 1 FROM a_relation, LATERAL (SELECT a_call(a_column) FROM a_relation) x",
    ),
    (
        "RangeFunction",
        "SELECT 1 FROM LATERAL a_call(a_column) WITH ORDINALITY x, ROWS FROM (a_call(a_column), a_call()) y",
    ),
    (
        "RangeFunction.coldeflist",
        "SELECT 1 FROM a_call(a_column) AS x(b a_type, c a_type[] COLLATE \"C\"), ROWS FROM (a_call() AS (d a_type)) y",
    ),
    (
        "RangeTableSample",
        "SELECT 1 FROM a_relation TABLESAMPLE m (a_call(), (SELECT a_column FROM a_relation)) REPEATABLE (a_call())",
    ),
    (
        "RangeTableFunc",
        "SELECT 1 FROM a_relation, XMLTABLE(XMLNAMESPACES (a_call() AS n, DEFAULT a_call()), a_call(a_column) PASSING a_column COLUMNS b a_type PATH a_call() DEFAULT a_call(a_column) NOT NULL, o FOR ORDINALITY, c a_type[])",
    ),
    (
        "RangeTableFunc with queries",
        "SELECT 1 FROM XMLTABLE((SELECT a_column FROM a_relation) PASSING (SELECT 1 FROM a_relation) COLUMNS b a_type(1) PATH (SELECT 'x' FROM a_relation))",
    ),
    (
        "XmlExpr",
        "SELECT xmlelement(name n, xmlattributes(a_column, a_call() AS b), a_call(a_column)), xmlforest(a_column, a_call() AS c), xmlconcat(a_call()), xmlparse(content a_call()), xmlpi(name n, a_column), xmlroot(a_column, version a_call()), a_column IS DOCUMENT",
    ),
    (
        "XmlSerialize",
        "SELECT xmlserialize(content a_call(a_column) AS a_type)",
    ),
    (
        "JsonObjectConstructor, JsonKeyValue",
        "SELECT json_object(a_call() VALUE a_column, 'k': a_call() FORMAT JSON ABSENT ON NULL WITH UNIQUE KEYS RETURNING a_type)",
    ),
    (
        "JsonArrayConstructor",
        "SELECT json_array(a_column, a_call() FORMAT JSON NULL ON NULL RETURNING a_type)",
    ),
    (
        "JsonArrayQueryConstructor",
        "SELECT json_array(SELECT a_call(a_column) FROM a_relation RETURNING a_type)",
    ),
    (
        "JsonObjectAgg",
        "SELECT json_objectagg(a_column VALUE a_call() RETURNING a_type) FILTER (WHERE a_call()) OVER (PARTITION BY a_call(a_column))",
    ),
    (
        "JsonArrayAgg",
        "SELECT json_arrayagg(a_column ORDER BY a_call() NULL ON NULL RETURNING a_type) FILTER (WHERE a_call()) OVER (ORDER BY a_column)",
    ),
    (
        "JsonParseExpr, JsonScalarExpr, JsonSerializeExpr",
        "SELECT json(a_call()), json_scalar(a_column), json_serialize(a_call(a_column) RETURNING a_type)",
    ),
    (
        "JsonIsPredicate",
        "SELECT a_column IS JSON OBJECT, a_call() IS NOT JSON",
    ),
    (
        "JsonFuncExpr",
        "SELECT json_value(a_column, a_call() PASSING a_call(a_column) AS v RETURNING a_type DEFAULT a_call() ON EMPTY DEFAULT a_column ON ERROR), json_query(a_call(), '$' RETURNING a_type WITH WRAPPER KEEP QUOTES), json_exists(a_column, '$' PASSING a_call() AS v)",
    ),
    (
        "JsonTable",
        "SELECT 1 FROM a_relation, JSON_TABLE(a_call(a_column), '$' AS p PASSING a_call(a_column) AS v COLUMNS (o FOR ORDINALITY, b a_type PATH '$.b' DEFAULT a_call() ON EMPTY DEFAULT a_column ON ERROR, c a_type EXISTS PATH '$.c', d a_type FORMAT JSON PATH '$', NESTED PATH '$' COLUMNS (e a_type DEFAULT a_call() ON EMPTY)) ERROR ON ERROR) t",
    ),
    (
        "JsonTable with a query",
        "SELECT 1 FROM JSON_TABLE((SELECT a_column FROM a_relation), '$' PASSING (SELECT a_call() FROM a_relation) AS v COLUMNS (b a_type)) t",
    ),
    (
        "forms of functions",
        "SELECT extract(year FROM a_column), a_call() AT TIME ZONE a_column, position(a_call() IN a_column), substring(a_column FROM a_call()), trim(a_call() FROM a_column), overlay(a_column PLACING a_call() FROM 1), a_column SIMILAR TO a_call(), collation for (a_call()), (a_column, a_call()) OVERLAPS (a_call(), a_column), normalize(a_call()), a_column IS NORMALIZED",
    ),
    ("treat", "SELECT treat(a_call() AS other.a_call)"),
];

#[test]
fn every_field_of_every_node_is_seen() {
    let mut missed = Vec::new();
    for (node, sql) in NODES {
        let tree = parse(sql).unwrap_or_else(|error| panic!("{node}: {error}"));
        let query = query_of(tree.iter().next().unwrap().stmt()).unwrap();
        let found = survey(query, &|_| Rest::All).unwrap_or_else(|error| panic!("{node}: {error}"));
        let (seen, there) = (
            counts(&found),
            ["a_relation", "a_call", "a_column", "a_type"],
        );
        for (seen, word) in seen.into_iter().zip(there) {
            let there = sql.matches(word).count();
            if seen != there {
                missed.push(format!("{node}: {word} {seen} times of {there}\n  {sql}"));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn counts(found: &Survey) -> [usize; 4] {
    let relations = found.relations.iter();
    let functions = found.functions.iter();
    let columns = found.columns.iter();
    let types = found.types.iter();
    [
        relations.filter(|one| one.name == "a_relation").count(),
        functions.filter(|one| one.name == "a_call").count(),
        columns.filter(|one| one.parts == ["a_column"]).count(),
        types.filter(|one| one.name == "a_type").count(),
    ]
}
