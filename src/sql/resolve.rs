//! The rewriter's reading of a statement: which columns of which relation it
//! uses, by sqlparser's tree and Postgres's rules of scope.
//!
//! Soundness does not rest on this room: a scan holds no value that its caller
//! may not see, whoever refers to it. What rests on it is that a reference to a
//! blocked column is refused with its name, and that the record says what was
//! touched. Where a name could mean either of two columns, both count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use sqlparser::ast::{
    Delete, Expr, FromTable, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join,
    JoinConstraint, JoinOperator, ObjectName, OrderBy, OrderByKind, OutputClause, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor,
    TableObject, TableWithJoins, UpdateTableFromKind, Visit, Visitor, With,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Location;

/// What the catalog knows of a relation named at some byte: the columns this
/// caller can name, in order.
pub(super) type Known<'k> = HashMap<usize, &'k [String]>;

/// What sqlparser's tree says of a statement.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Where relations are named: first byte, end, and whether the name means a
    /// common table expression.
    pub(super) relations: BTreeSet<(usize, usize, bool)>,
    /// Where columns and whole rows are referred to.
    pub(super) columns: BTreeSet<usize>,
    /// Columns used, by the relation's first byte.
    pub(super) uses: BTreeMap<usize, BTreeSet<String>>,
    /// `schema.relation.column`: first byte, the byte after `schema.`, and the
    /// relation's first byte.
    pub(super) long: Vec<(usize, usize, usize)>,
    /// References to a column of a relation named in the same SELECT, and to
    /// nothing else.
    pub(super) bound: super::pushdown::Bound,
    /// A reference could not be told: whatever it means must be there.
    pub(super) uncertain: bool,
    /// References that certainly mean a column, so never a function in
    /// attribute notation.
    pub(super) certain: BTreeSet<usize>,
}

impl Reading {
    /// The same, for a text in which the statement begins at byte `by`.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self {
            relations: self
                .relations
                .into_iter()
                .map(|(start, end, cte)| (start + by, end + by, cte))
                .collect(),
            columns: self.columns.into_iter().map(|at| at + by).collect(),
            uses: self
                .uses
                .into_iter()
                .map(|(at, names)| (at + by, names))
                .collect(),
            long: self
                .long
                .into_iter()
                .map(|(start, after, site)| (start + by, after + by, site + by))
                .collect(),
            bound: self
                .bound
                .into_iter()
                .map(|(at, (site, name))| (at + by, (site + by, name)))
                .collect(),
            uncertain: self.uncertain,
            certain: self.certain.into_iter().map(|at| at + by).collect(),
        }
    }
}

/// Why sqlparser's tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Syntax(#[from] ParserError),
    #[error("{0}")]
    Construct(&'static str),
}

/// Nested expressions sqlparser may enter before it gives up.
const DEPTH: usize = 1000;

/// Columns that every table has and no scan lists by itself.
const SYSTEM: &[&str] = &["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];

/// Reads one canonical statement.
pub(super) fn read(text: &str, known: &Known<'_>) -> Result<Reading, Unread> {
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH)
        .try_with_sql(text)?
        .parse_statements()?;
    let [statement] = statements.as_slice() else {
        return Err(Unread::Construct("more than one statement"));
    };
    let mut reader = Reader {
        lines: Lines::new(text),
        known,
        scopes: Vec::new(),
        found: Reading::default(),
        output_names: BTreeSet::new(),
        function: None,
    };
    match statement.visit(&mut reader) {
        ControlFlow::Continue(()) => Ok(reader.found),
        ControlFlow::Break(unread) => Err(unread),
    }
}

/// Line and column (sqlparser, in characters) → byte (everybody else).
struct Lines {
    /// The byte at which each character begins, and the end; none where all are
    /// of one byte.
    bytes: Option<Vec<usize>>,
    /// The character at which each line begins.
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .collect()
        });
        let breaks = text
            .chars()
            .enumerate()
            .filter(|(_, c)| *c == '\n')
            .map(|(at, _)| at + 1);
        Self {
            bytes,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    fn byte(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let at = self.starts.get(line)? + column;
        match &self.bytes {
            Some(bytes) => bytes.get(at).copied(),
            None => Some(at),
        }
    }
}

/// An item of a FROM clause, as names see it.
#[derive(Clone, Debug)]
struct Item {
    refname: String,
    schema: Option<String>,
    /// The first byte of the relation's name; none for subqueries, functions and
    /// common table expressions.
    site: Option<usize>,
    /// Visible name and stored name; none where they are not known.
    columns: Option<Vec<(String, String)>>,
}

/// A common table expression, as names see it.
struct Cte {
    name: String,
    /// The address of its body in the tree, to know when it is visited.
    body: usize,
    outputs: Option<Vec<String>>,
}

#[derive(Default)]
struct Scope {
    ctes: Vec<Cte>,
    recursive: bool,
    /// Without RECURSIVE, how many common table expressions can be seen yet.
    visible: usize,
    items: Vec<Item>,
    outputs: Vec<String>,
}

struct Reader<'r> {
    lines: Lines,
    known: &'r Known<'r>,
    scopes: Vec<Scope>,
    found: Reading,
    /// Bytes of ORDER BY names that mean an output column.
    output_names: BTreeSet<usize>,
    /// The name of a function in FROM, which the visitor reports as a relation.
    function: Option<usize>,
}

type Flow = ControlFlow<Unread>;

fn stop(what: &'static str) -> Flow {
    ControlFlow::Break(Unread::Construct(what))
}

impl Reader<'_> {
    fn start(&self, ident: &Ident) -> Option<usize> {
        self.lines.byte(ident.span.start)
    }

    fn end(&self, ident: &Ident) -> Option<usize> {
        self.lines.byte(ident.span.end)
    }

    /// The common table expression that a bare name means here, as its output
    /// names if they are known.
    fn cte(&self, name: &str) -> Option<Option<Vec<String>>> {
        self.scopes.iter().rev().find_map(|scope| {
            let visible = if scope.recursive {
                scope.ctes.len()
            } else {
                scope.visible
            };
            let cte = scope
                .ctes
                .get(..visible)?
                .iter()
                .rfind(|cte| cte.name == name)?;
            Some(cte.outputs.clone())
        })
    }

    /// Notes that the body of a common table expression begins (`past` 0: it sees
    /// those before it) or has ended (`past` 1: it can be seen itself).
    fn enter_body(&mut self, query: &Query, past: usize) {
        let address = std::ptr::from_ref(query).addr();
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.ctes.iter().position(|cte| cte.body == address)
        {
            scope.visible = scope.visible.max(at + past);
        }
    }

    /// Adds the common table expressions of a WITH to the innermost scope.
    fn declare(&mut self, with: &With) {
        for cte in &with.cte_tables {
            let outputs = match cte.alias.columns.is_empty() {
                false => Some(alias_columns(&cte.alias)),
                true => self.outputs(&cte.query, 0),
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.ctes.push(Cte {
                    name: cte.alias.name.value.clone(),
                    body: std::ptr::from_ref::<Query>(&cte.query).addr(),
                    outputs,
                });
                scope.visible = scope.ctes.len();
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.recursive = with.recursive;
            scope.visible = 0;
        }
    }

    /// The output names of a query, if they can be told without types.
    fn outputs(&self, query: &Query, depth: usize) -> Option<Vec<String>> {
        self.set_outputs(&query.body, depth)
    }

    fn set_outputs(&self, body: &SetExpr, depth: usize) -> Option<Vec<String>> {
        if depth > 8 {
            return None;
        }
        match body {
            SetExpr::Select(select) => self.select_outputs(select, depth),
            SetExpr::Query(query) => self.outputs(query, depth + 1),
            SetExpr::SetOperation { left, .. } => self.set_outputs(left, depth + 1),
            SetExpr::Values(values) => {
                let width = values.rows.first()?.content.len();
                Some((1..=width).map(|at| format!("column{at}")).collect())
            }
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => None,
        }
    }

    fn select_outputs(&self, select: &Select, depth: usize) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
                SelectItem::UnnamedExpr(expr) => names.push(output_name(expr)?),
                SelectItem::Wildcard(_) => {
                    for item in self.items(&select.from, depth + 1).ok()? {
                        names.extend(item.columns?.into_iter().map(|(name, _)| name));
                    }
                }
                SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                    return None;
                }
            }
        }
        Some(names)
    }

    fn items(&self, from: &[TableWithJoins], depth: usize) -> Result<Vec<Item>, Unread> {
        let mut items = Vec::new();
        for table in from {
            self.factor(&table.relation, depth, &mut items)?;
            for join in &table.joins {
                self.factor(&join.relation, depth, &mut items)?;
            }
        }
        Ok(items)
    }

    fn factor(
        &self,
        factor: &TableFactor,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), Unread> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                items.push(self.relation_item(name, alias.as_ref())?);
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, alias, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident());
                items.push(opaque(
                    alias.as_ref(),
                    last.map_or("", |ident| &ident.value),
                ));
            }
            TableFactor::Derived {
                subquery, alias, ..
            } => {
                let names = if depth > 8 {
                    None
                } else {
                    self.outputs(subquery, depth + 1)
                };
                items.push(renamed(alias.as_ref(), "", None, None, names.map(same)));
            }
            TableFactor::UNNEST { alias, .. } => items.push(opaque(alias.as_ref(), "unnest")),
            TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::XmlTable { alias, .. } => items.push(opaque(alias.as_ref(), "")),
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                items.extend(self.items(std::slice::from_ref(table_with_joins), depth + 1)?);
                if alias.is_some() {
                    items.push(opaque(alias.as_ref(), ""));
                }
            }
            TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::SemanticView { .. } => {
                return Err(Unread::Construct(
                    "an item in FROM that Postgres does not have",
                ));
            }
        }
        Ok(())
    }

    fn relation_item(&self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<Item, Unread> {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return Err(Unread::Construct("a relation without a name"));
        };
        if let [only] = idents.as_slice()
            && let Some(columns) = self.cte(&only.value)
        {
            return Ok(renamed(alias, &last.value, None, None, columns.map(same)));
        }
        let site = self
            .start(first)
            .ok_or(Unread::Construct("a name without a place"))?;
        let columns = self.known.get(&site).map(|columns| same(columns.to_vec()));
        let schema = match idents.as_slice() {
            [schema, _] if alias.is_none() => {
                let bare = schema.value.strip_prefix(super::canonical::ONLY_MARK);
                Some(bare.unwrap_or(&schema.value).to_owned())
            }
            _ => None,
        };
        Ok(renamed(alias, &last.value, schema, Some(site), columns))
    }

    fn touch(&mut self, item: &Item, visible: &str) -> bool {
        let stored = item
            .columns
            .iter()
            .flatten()
            .find(|(name, _)| name == visible)
            .map(|(_, stored)| stored.clone());
        if let (Some(stored), Some(site)) = (&stored, item.site) {
            self.found
                .uses
                .entry(site)
                .or_default()
                .insert(stored.clone());
        }
        stored.is_some()
    }

    fn touch_all(&mut self, item: &Item) {
        if let Some(site) = item.site {
            let stored = item
                .columns
                .iter()
                .flatten()
                .map(|(_, stored)| stored.clone());
            self.found.uses.entry(site).or_default().extend(stored);
        }
    }

    /// A bare name: the innermost scope that has such a column; else a whole row.
    fn bare(&mut self, name: &str) {
        for level in (0..self.scopes.len()).rev() {
            let items = self
                .scopes
                .get(level)
                .map_or_else(Vec::new, |scope| scope.items.clone());
            let mut hit = false;
            for item in &items {
                hit |= self.touch(item, name);
            }
            if hit {
                return;
            }
            if let Some(item) = items.iter().find(|item| item.refname == name) {
                self.touch_all(item);
                return;
            }
        }
        if SYSTEM.contains(&name) {
            return;
        }
        let output = |scope: &Scope| scope.outputs.iter().any(|output| output == name);
        self.found.uncertain |= !self.scopes.last().is_some_and(output);
    }

    /// `refname.column` or `refname.*`; whether the column is certainly one.
    fn dotted(
        &mut self,
        schema: Option<&str>,
        refname: &str,
        column: &str,
    ) -> Option<(Item, bool)> {
        let item = self
            .scopes
            .iter()
            .rev()
            .flat_map(|scope| scope.items.iter())
            .find(|item| {
                item.refname == refname && (schema.is_none() || item.schema.as_deref() == schema)
            })
            .cloned()?;
        if column == "*" {
            self.touch_all(&item);
            return Some((item, true));
        }
        let certain = self.touch(&item, column);
        if !certain && item.columns.is_some() {
            // Attribute notation: a function of the whole row.
            self.touch_all(&item);
        }
        Some((item, certain))
    }

    fn reference(&mut self, parts: &[Ident]) -> Flow {
        let Some(start) = parts.first().and_then(|first| self.start(first)) else {
            return stop("a name without a place");
        };
        if self.output_names.contains(&start) {
            self.found.columns.insert(start);
            return ControlFlow::Continue(());
        }
        self.found.columns.insert(start);
        self.bind(start, parts);
        match parts {
            [name] => self.bare(&name.value),
            [refname, column] => match self.dotted(None, &refname.value, &column.value) {
                Some((_, true)) => {
                    self.found.certain.insert(start);
                }
                Some((_, false)) => {}
                None => self.bare(&refname.value),
            },
            [schema, refname, column] => {
                match self.dotted(Some(&schema.value), &refname.value, &column.value) {
                    Some((item, certain)) => {
                        if certain {
                            self.found.certain.insert(start);
                        }
                        let (Some(site), Some(after)) = (item.site, self.start(refname)) else {
                            return stop("a name without a place");
                        };
                        self.found.long.push((start, after, site));
                    }
                    None => {
                        self.dotted(None, &schema.value, &refname.value);
                    }
                }
            }
            _ => return stop("a reference of more than three parts"),
        }
        ControlFlow::Continue(())
    }

    /// Notes what a reference is bound to, if the innermost scope leaves no doubt.
    fn bind(&mut self, start: usize, parts: &[Ident]) {
        let Some(scope) = self.scopes.last() else {
            return;
        };
        let (refname, column) = match parts {
            [column] => (None, &column.value),
            [refname, column] => (Some(&refname.value), &column.value),
            _ => return,
        };
        let mut items = scope
            .items
            .iter()
            .filter(|item| refname.is_none_or(|refname| item.refname == *refname));
        let holds = |item: &Item| {
            item.columns
                .as_ref()
                .is_none_or(|all| all.iter().any(|(name, _)| name == column))
        };
        let (Some(item), None) = (
            items.by_ref().find(|item| holds(item)),
            items.find(|item| holds(item)),
        ) else {
            return;
        };
        let stored = item
            .columns
            .iter()
            .flatten()
            .find(|(name, _)| name == column);
        if let (Some(site), Some((_, stored))) = (item.site, stored) {
            self.found.bound.insert(start, (site, stored.clone()));
        }
    }

    fn wildcards(&mut self, items: &[SelectItem]) -> Flow {
        for item in items {
            match item {
                SelectItem::Wildcard(options) => {
                    let token = self.lines.byte(options.wildcard_token.0.span.start);
                    let Some(start) = token else {
                        return stop("a star without a place");
                    };
                    self.found.columns.insert(start);
                    let all = self
                        .scopes
                        .last()
                        .map_or_else(Vec::new, |scope| scope.items.clone());
                    for item in &all {
                        self.touch_all(item);
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    self.whole_row(name)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {}
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => {}
                SelectItem::ExprWithAliases { .. } => {
                    return stop("several aliases for one expression");
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// `name.*`, in a target list or anywhere else.
    fn whole_row(&mut self, name: &ObjectName) -> Flow {
        let idents = name.0.iter().filter_map(|part| part.as_ident().cloned());
        let parts: Vec<Ident> = idents.chain([Ident::new("*")]).collect();
        self.reference(&parts)
    }

    /// A star among a function's arguments is no expression of its own.
    fn arguments(&mut self, all: &[FunctionArg]) -> Flow {
        for argument in all {
            let (FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg)) = argument;
            if let FunctionArgExpr::QualifiedWildcard(name) = arg {
                self.whole_row(name)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn joins(&mut self, from: &[TableWithJoins]) -> Flow {
        for table in from {
            let mut left = Vec::new();
            if let Err(unread) = self.factor(&table.relation, 0, &mut left) {
                return ControlFlow::Break(unread);
            }
            self.nested(&table.relation)?;
            for join in &table.joins {
                self.nested(&join.relation)?;
                let mut right = Vec::new();
                if let Err(unread) = self.factor(&join.relation, 0, &mut right) {
                    return ControlFlow::Break(unread);
                }
                self.join(join, &left, &right)?;
                left.extend(right);
            }
        }
        ControlFlow::Continue(())
    }

    fn nested(&mut self, factor: &TableFactor) -> Flow {
        let TableFactor::NestedJoin {
            table_with_joins,
            alias,
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let inner = std::slice::from_ref(&**table_with_joins);
        if alias.is_some() {
            // Its columns are named through the alias, in an order of its own.
            match self.items(inner, 0) {
                Ok(items) => items.iter().for_each(|item| self.touch_all(item)),
                Err(unread) => return ControlFlow::Break(unread),
            }
        }
        self.joins(inner)
    }

    fn join(&mut self, join: &Join, left: &[Item], right: &[Item]) -> Flow {
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            _ => return stop("a join that Postgres does not have"),
        };
        let names: Vec<String> = match constraint {
            JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
            JoinConstraint::Using(columns) => columns
                .iter()
                .filter_map(|name| name.0.last()?.as_ident().map(|ident| ident.value.clone()))
                .collect(),
            JoinConstraint::Natural => {
                let named = |items: &[Item]| -> BTreeSet<String> {
                    let columns = items.iter().filter_map(|item| item.columns.as_ref());
                    columns.flatten().map(|(name, _)| name.clone()).collect()
                };
                named(left).intersection(&named(right)).cloned().collect()
            }
        };
        let all = || left.iter().chain(right);
        for name in &names {
            for item in all() {
                self.touch(item, name);
            }
        }
        if matches!(constraint, JoinConstraint::Natural) && all().any(|item| item.columns.is_none())
        {
            for item in all() {
                self.touch_all(item);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Reader<'_> {
    type Break = Unread;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        let mut scope = Scope::default();
        let items = match statement {
            Statement::Query(_) => return ControlFlow::Continue(()),
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else {
                    return stop("INSERT into a function");
                };
                let alias = insert.table_alias.as_ref().map(|alias| alias.alias.clone());
                self.relation_item(name, None).map(|mut item| {
                    if let Some(alias) = alias {
                        item.refname = alias.value;
                    }
                    vec![item]
                })
            }
            Statement::Update(update) => {
                let mut from = vec![update.table.clone()];
                match &update.from {
                    Some(
                        UpdateTableFromKind::BeforeSet(tables)
                        | UpdateTableFromKind::AfterSet(tables),
                    ) => {
                        from.extend(tables.iter().cloned());
                    }
                    None => {}
                }
                self.items(&from, 0)
            }
            Statement::Delete(Delete { from, using, .. }) => {
                let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
                let mut all = tables.clone();
                all.extend(using.iter().flatten().cloned());
                self.items(&all, 0)
            }
            Statement::Merge(merge) => {
                let mut items = Vec::new();
                self.factor(&merge.table, 0, &mut items)
                    .and_then(|()| self.factor(&merge.source, 0, &mut items))
                    .map(|()| items)
            }
            _ => return stop("a statement that is not a query"),
        };
        match items {
            Ok(items) => scope.items = items,
            Err(unread) => return ControlFlow::Break(unread),
        }
        let written = scope.items.clone();
        self.scopes.push(scope);
        // What is written to is touched as a whole: its row passes by.
        if let Some(target) = written.first() {
            self.touch_all(target);
        }
        let returning = match statement {
            Statement::Insert(insert) => &insert.returning,
            Statement::Update(update) => &update.returning,
            Statement::Delete(delete) => &delete.returning,
            Statement::Merge(merge) => {
                let Some(OutputClause::Returning { select_items, .. }) = &merge.output else {
                    return ControlFlow::Continue(());
                };
                return self.wildcards(select_items);
            }
            _ => &None,
        };
        self.wildcards(returning.as_deref().unwrap_or_default())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> Flow {
        if !matches!(statement, Statement::Query(_)) {
            self.scopes.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if !query.pipe_operators.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
        {
            return stop("a clause that Postgres does not have");
        }
        self.enter_body(query, 0);
        self.scopes.push(Scope::default());
        if let Some(with) = &query.with {
            self.declare(with);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        self.scopes.pop();
        self.enter_body(query, 1);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let items = match self.items(&select.from, 0) {
            Ok(items) => items,
            Err(unread) => return ControlFlow::Break(unread),
        };
        let outputs = select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                _ => None,
            })
            .collect();
        if let Some(scope) = self.scopes.last_mut() {
            scope.items = items;
            scope.outputs = outputs;
        }
        self.joins(&select.from)?;
        self.wildcards(&select.projection)
    }

    /// Of a query: within OVER or an aggregate, a name is never an output's.
    fn pre_visit_order_by(&mut self, order: &OrderBy) -> Flow {
        let OrderByKind::Expressions(all) = &order.kind else {
            return stop("ORDER BY ALL");
        };
        for order in all {
            if let Expr::Identifier(name) = &order.expr
                && self
                    .scopes
                    .last()
                    .is_some_and(|scope| scope.outputs.contains(&name.value))
                && let Some(start) = self.start(name)
            {
                self.output_names.insert(start);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        if let TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } = factor
        {
            self.arguments(&arguments.args)?;
            let first = name.0.first().and_then(|part| part.as_ident());
            self.function = first.and_then(|first| self.start(first));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Flow {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return stop("a relation without a name");
        };
        let (Some(start), Some(end)) = (self.start(first), self.end(last)) else {
            return stop("a name without a place");
        };
        if self.function == Some(start) {
            self.function = None;
            return ControlFlow::Continue(());
        }
        let cte = idents.len() == 1 && self.cte(&first.value).is_some();
        self.found.relations.insert((start, end, cte));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Identifier(name) => self.reference(std::slice::from_ref(name)),
            Expr::CompoundIdentifier(parts) => self.reference(parts),
            Expr::QualifiedWildcard(name, _) => self.whole_row(name),
            Expr::Function(function) => match &function.args {
                FunctionArguments::List(list) => self.arguments(&list.args),
                FunctionArguments::None | FunctionArguments::Subquery(_) => {
                    ControlFlow::Continue(())
                }
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn same(names: Vec<String>) -> Vec<(String, String)> {
    names.into_iter().map(|name| (name.clone(), name)).collect()
}

fn alias_columns(alias: &TableAlias) -> Vec<String> {
    alias
        .columns
        .iter()
        .map(|column| column.name.value.clone())
        .collect()
}

/// An item whose columns are not known, unless the alias names them.
fn opaque(alias: Option<&TableAlias>, name: &str) -> Item {
    renamed(alias, name, None, None, None)
}

/// An item under its alias: `x AS t(a, b)` renames the first columns.
fn renamed(
    alias: Option<&TableAlias>,
    name: &str,
    schema: Option<String>,
    site: Option<usize>,
    columns: Option<Vec<(String, String)>>,
) -> Item {
    let mut columns = columns;
    if let (Some(alias), Some(columns)) = (alias, &mut columns) {
        for (column, renamed) in columns.iter_mut().zip(alias_columns(alias)) {
            column.0 = renamed;
        }
    }
    Item {
        refname: alias.map_or_else(|| name.to_owned(), |alias| alias.name.value.clone()),
        schema,
        site,
        columns,
    }
}

/// The name Postgres gives an output column without an alias (FigureColname).
fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
        Expr::Function(function) => {
            let last = function.name.0.last()?.as_ident()?;
            Some(last.value.clone())
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => output_name(expr),
        _ => None,
    }
}
