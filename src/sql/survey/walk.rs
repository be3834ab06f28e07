//! The walk of Postgres's tree.
//!
//! Invariant: a node that it does not know is refused, never skipped. What is
//! underneath is Postgres's `raw_expression_tree_walker`, which covers what can
//! stand in SELECT, INSERT, UPDATE, DELETE and MERGE; utility statements are
//! entered by hand.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use super::{
    ColumnSite, FunctionSite, OperatorSite, RelationSite, Rest, Role, SampleSite, Scans, Survey,
    Unknown, argument, type_site, unknown, written,
};
use crate::sql::depth::{Ground, TooDeep};
use crate::sql::version::newer;

/// Terms that one AND or OR may join.
const TERMS: usize = 20_000;

/// Common table expressions in scope, innermost last.
pub(super) struct Scope<'p> {
    pub(super) outer: Option<&'p Scope<'p>>,
    pub(super) names: Vec<String>,
}

impl Scope<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
            || self.outer.is_some_and(|outer| outer.has(name))
    }
}

pub(super) struct Walk<'s> {
    pub(super) found: Survey,
    pub(super) scans: Scans<'s>,
    pub(super) ground: Ground,
    /// Where calls of `unnest` stand that are many in one: see [`expanded`].
    pub(super) expanded: BTreeSet<i32>,
}

impl Walk<'_> {
    pub(super) fn statement(&mut self, node: Node<'_>, scope: &Scope<'_>) -> Result<(), Unknown> {
        let (with, target) = match node {
            Node::SelectStmt(select) => (select.with_clause(), None),
            Node::InsertStmt(insert) => (insert.with_clause(), insert.relation()),
            Node::UpdateStmt(update) => (update.with_clause(), update.relation()),
            Node::DeleteStmt(delete) => (delete.with_clause(), delete.relation()),
            Node::MergeStmt(merge) => (merge.with_clause(), merge.relation()),
            other => return Err(unknown(other)),
        };
        self.found.newer.extend(newer(node));
        self.found.written.extend(written::written(node)?);
        let mut inner = Scope {
            outer: Some(scope),
            names: Vec::new(),
        };
        if let Some(with) = with {
            // Without RECURSIVE, an expression sees only those before it.
            let name = |cte: &nodes::CommonTableExpr| cte.ctename().unwrap_or_default().to_owned();
            if with.recursive {
                inner.names = with.ctes().iter().map(name).collect();
            }
            for cte in with.ctes() {
                self.statement(cte.ctequery(), &inner)?;
                self.named(cte.aliascolnames().iter().map(Node::as_str));
                // The walker underneath leaves these clauses out.
                if let Some(search) = cte.search_clause() {
                    self.named([search.search_seq_column()]);
                }
                if let Some(cycle) = cte.cycle_clause() {
                    self.implied(&["=", "<>"]);
                    self.named([cycle.cycle_mark_column(), cycle.cycle_path_column()]);
                    self.node(cycle.cycle_mark_value(), &inner, None)?;
                    self.node(cycle.cycle_mark_default(), &inner, None)?;
                }
                if !with.recursive {
                    inner.names.push(name(cte));
                }
            }
        }
        self.children(node, &inner, target.map(|relation| relation.location))
    }

    fn children(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        let stopped = walk_manual(node, |child| match self.enter(child, scope, target) {
            Ok(recurse) => ControlFlow::Continue(recurse),
            Err(unknown) => ControlFlow::Break(unknown),
        });
        stopped.map_or(Ok(()), Err)
    }

    pub(super) fn node(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        match self.enter(node, scope, target)? {
            // The walk does not take nothing for a node.
            Recurse::Yes if matches!(node, Node::None) => Ok(()),
            Recurse::Yes => self.children(node, scope, target),
            Recurse::No => Ok(()),
        }
    }

    fn enter(
        &mut self,
        node: Node<'_>,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<Recurse, Unknown> {
        self.ground.check().map_err(|TooDeep| Unknown::TooDeep)?;
        self.found.newer.extend(newer(node));
        match node {
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => {
                self.statement(node, scope)?;
                Ok(Recurse::No)
            }
            // Entered by `statement`, in the order that scopes need.
            Node::WithClause(_) => Ok(Recurse::No),
            Node::RangeVar(relation) => {
                self.relation(relation, scope, target)?;
                Ok(Recurse::No)
            }
            Node::RangeSubselect(subselect) => match (self.scans)(subselect) {
                Rest::All => Ok(Recurse::Yes),
                Rest::Nothing => Ok(Recurse::No),
                Rest::Only(node) => {
                    self.node(node, scope, target)?;
                    Ok(Recurse::No)
                }
            },
            Node::RangeTableSample(sample) => {
                self.sample(sample)?;
                Ok(Recurse::Yes)
            }
            // Its relations are names of FROM items, not of relations.
            Node::LockingClause(_) => {
                self.found.locks = true;
                Ok(Recurse::No)
            }
            Node::IntoClause(_) => {
                self.found.into = true;
                Ok(Recurse::No)
            }
            Node::CurrentOfExpr(_) => {
                self.found.current_of = true;
                Ok(Recurse::No)
            }
            Node::ColumnRef(column) => {
                let parts = column.fields().iter().map(part).collect::<Result<_, _>>()?;
                self.found.columns.push(ColumnSite {
                    start: offset(column.location)?,
                    parts,
                });
                Ok(Recurse::No)
            }
            Node::A_Indirection(indirection) => {
                let fields = indirection.indirection().iter().filter_map(Node::as_str);
                self.found.fields.extend(fields.map(str::to_owned));
                Ok(Recurse::Yes)
            }
            // One subquery stands for all the columns that it sets.
            Node::MultiAssignRef(one) if one.colno > 1 => Ok(Recurse::No),
            Node::MultiAssignRef(_) => Ok(Recurse::Yes),
            // A flat list here is a tree as deep as it is long to sqlparser.
            Node::BoolExpr(terms) if terms.args().len() > TERMS => {
                Err(Unknown::TooMany("terms", TERMS))
            }
            Node::BoolExpr(_) => Ok(Recurse::Yes),
            Node::RangeFunction(from) => {
                let calls = from.functions().iter().filter_map(expanded);
                self.expanded.extend(calls.map(|call| call.location));
                Ok(Recurse::Yes)
            }
            Node::FuncCall(call) => {
                self.function(call)?;
                Ok(Recurse::Yes)
            }
            Node::A_Expr(expression) => {
                self.found.expressions += 1;
                use nodes::A_Expr_Kind as Is;
                if matches!(
                    expression.kind,
                    Is::AEXPR_BETWEEN
                        | Is::AEXPR_NOT_BETWEEN
                        | Is::AEXPR_BETWEEN_SYM
                        | Is::AEXPR_NOT_BETWEEN_SYM
                ) {
                    self.implied(&["<", "<=", ">", ">="]);
                } else {
                    self.found.operator(expression.name())?;
                }
                Ok(Recurse::Yes)
            }
            Node::SubLink(link) => {
                self.found.operator(link.oper_name())?;
                self.implied(&["="]);
                Ok(Recurse::Yes)
            }
            Node::CaseExpr(case) => {
                if !matches!(case.arg(), Node::None) {
                    self.implied(&["="]);
                }
                Ok(Recurse::Yes)
            }
            Node::JoinExpr(join) => {
                self.found.natural |= join.is_natural;
                if join.is_natural || !join.using_clause().is_empty() {
                    self.implied(&["="]);
                }
                Ok(Recurse::Yes)
            }
            Node::SortBy(sort) => {
                self.found.operator(sort.use_op())?;
                Ok(Recurse::Yes)
            }
            Node::ReturningOption(option) => {
                self.found
                    .returned
                    .extend(option.value().map(str::to_owned));
                Ok(Recurse::Yes)
            }
            Node::TypeName(name) => {
                self.found.types.push(type_site(name)?);
                Ok(Recurse::Yes)
            }
            // The walker underneath leaves the column's type out.
            Node::RangeTableFuncCol(column) => {
                self.named([column.colname()]);
                self.node(column.type_name().into(), scope, target)?;
                Ok(Recurse::Yes)
            }
            // And of this one its path.
            Node::JsonTableColumn(column) => {
                self.named([column.name()]);
                self.node(column.pathspec().into(), scope, target)?;
                Ok(Recurse::Yes)
            }
            Node::Alias(alias) => {
                self.named([alias.aliasname()]);
                self.named(alias.colnames().iter().map(Node::as_str));
                Ok(Recurse::Yes)
            }
            Node::ResTarget(target) => {
                self.named([target.name()]);
                Ok(Recurse::Yes)
            }
            Node::ColumnDef(column) => {
                self.named([column.colname()]);
                Ok(Recurse::Yes)
            }
            Node::None
            | Node::NodeList(_)
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::A_ArrayExpr(_)
            | Node::A_Indices(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            | Node::BooleanTest(_)
            | Node::CaseWhen(_)
            | Node::CoalesceExpr(_)
            | Node::CollateClause(_)
            | Node::Float(_)
            | Node::GroupingFunc(_)
            | Node::GroupingSet(_)
            | Node::IndexElem(_)
            | Node::InferClause(_)
            | Node::Integer(_)
            | Node::JsonAggConstructor(_)
            | Node::JsonArgument(_)
            | Node::JsonArrayAgg(_)
            | Node::JsonArrayConstructor(_)
            | Node::JsonArrayQueryConstructor(_)
            | Node::JsonBehavior(_)
            | Node::JsonFormat(_)
            | Node::JsonFuncExpr(_)
            | Node::JsonIsPredicate(_)
            | Node::JsonKeyValue(_)
            | Node::JsonObjectAgg(_)
            | Node::JsonObjectConstructor(_)
            | Node::JsonOutput(_)
            | Node::JsonParseExpr(_)
            | Node::JsonReturning(_)
            | Node::JsonScalarExpr(_)
            | Node::JsonSerializeExpr(_)
            | Node::JsonTable(_)
            | Node::JsonTablePathSpec(_)
            | Node::JsonValueExpr(_)
            | Node::MergeSupportFunc(_)
            | Node::MergeWhenClause(_)
            | Node::MinMaxExpr(_)
            | Node::NamedArgExpr(_)
            | Node::NullTest(_)
            | Node::OnConflictClause(_)
            | Node::ParamRef(_)
            | Node::RangeTableFunc(_)
            | Node::ReturningClause(_)
            | Node::RowExpr(_)
            | Node::SQLValueFunction(_)
            | Node::SetToDefault(_)
            | Node::String(_)
            | Node::TypeCast(_)
            | Node::WindowDef(_)
            | Node::XmlExpr(_)
            | Node::XmlSerialize(_) => Ok(Recurse::Yes),
            other => Err(unknown(other)),
        }
    }

    fn relation(
        &mut self,
        relation: &nodes::RangeVar,
        scope: &Scope<'_>,
        target: Option<i32>,
    ) -> Result<(), Unknown> {
        let role = match target {
            Some(location) if location == relation.location => Role::Target,
            _ => Role::Read,
        };
        let name = relation.relname().unwrap_or_default().to_owned();
        let alias = relation.alias().and_then(nodes::Alias::aliasname);
        let qualified = relation.schemaname().is_some() || relation.catalogname().is_some();
        self.found.relations.push(RelationSite {
            start: offset(relation.location)?,
            catalog: relation.catalogname().map(str::to_owned),
            schema: relation.schemaname().map(str::to_owned),
            // A target is never a common table expression (setTargetTable).
            cte: role == Role::Read && !qualified && scope.has(&name),
            refname: alias.map_or_else(|| name.clone(), str::to_owned),
            aliased: alias.is_some(),
            name,
            only: !relation.inh,
            role,
        });
        Ok(())
    }

    fn function(&mut self, call: &nodes::FuncCall) -> Result<(), Unknown> {
        let parts = call
            .funcname()
            .iter()
            .map(part)
            .collect::<Result<Vec<_>, _>>()?;
        let (schema, name) = match parts.as_slice() {
            [name] if self.expanded.contains(&call.location) => {
                (Some("pg_catalog".to_owned()), name.clone())
            }
            [name] => (None, name.clone()),
            [schema, name] => (Some(schema.clone()), name.clone()),
            other => {
                return Err(Unknown::Construct(format!(
                    "function name `{}`",
                    other.join(".")
                )));
            }
        };
        // Syntax that stands for a call, such as AT LOCAL, may have no place: its
        // name is full already.
        let start = match schema {
            Some(_) => offset(call.location).unwrap_or(usize::MAX),
            None => offset(call.location)?,
        };
        self.found.functions.push(FunctionSite {
            start,
            schema,
            name,
            argument: argument::first(call),
            constant: argument::place(call),
            projects: argument::projects(call),
        });
        Ok(())
    }

    fn sample(&mut self, sample: &nodes::RangeTableSample) -> Result<(), Unknown> {
        let Node::RangeVar(relation) = sample.relation() else {
            return Err(Unknown::Construct(
                "TABLESAMPLE of something other than a relation".into(),
            ));
        };
        let constant =
            |node: Node<'_>| matches!(node, Node::A_Const(_) | Node::ParamRef(_) | Node::None);
        self.found.samples.push(SampleSite {
            relation: offset(relation.location)?,
            method: offset(sample.location)?,
            plain: sample.args().iter().all(constant) && constant(sample.repeatable()),
        });
        Ok(())
    }

    fn named<'n>(&mut self, names: impl IntoIterator<Item = Option<&'n str>>) {
        let names = names.into_iter().flatten().map(str::to_owned);
        self.found.names.extend(names);
    }

    /// Operators that syntax stands for without naming them.
    fn implied(&mut self, names: &[&str]) {
        let sites = names.iter().map(|&name| OperatorSite {
            schema: None,
            name: name.to_owned(),
        });
        self.found.operators.extend(sites);
    }
}

pub(super) fn part(node: Node<'_>) -> Result<String, Unknown> {
    match node {
        Node::String(text) => Ok(text.sval().unwrap_or_default().to_owned()),
        Node::A_Star(_) => Ok("*".to_owned()),
        other => Err(unknown(other)),
    }
}

fn offset(location: i32) -> Result<usize, Unknown> {
    usize::try_from(location).map_err(|_| Unknown::Construct("a name without a place".into()))
}

/// The call of one item of FROM, if it is `unnest` of several arrays: Postgres makes a
/// call of its own `unnest` for each of them, whatever the search_path has
/// (transformRangeFunction, parse_clause.c), and only where no schema is written.
fn expanded(item: Node<'_>) -> Option<&nodes::FuncCall> {
    let Node::NodeList(pair) = item else {
        return None;
    };
    let Some(Node::FuncCall(call)) = pair.get(0) else {
        return None;
    };
    let typed = !matches!(pair.get(1), None | Some(Node::None));
    let mut name = call.funcname().iter().map(Node::as_str);
    let named = name.next() == Some(Some("unnest")) && name.next().is_none();
    (named && call.args().len() > 1 && !argument::is_decorated(call) && !typed).then_some(call)
}
