"""Taxonomies: the project's own, and uploaded ones."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from services.api.authentication import Reader, Writer
from services.api.problems import Problem, not_found
from services.api.routes.common import listing, problems
from services.api.schemas import Before, Limit, Listing, TaxonomyDetail, TaxonomyView
from services.api.state import State
from services.api.submission import DEFAULT_TAXONOMY_ID, refuse_unstorable
from shared.domain.taxonomy import Taxonomy, default_taxonomy, parse_taxonomy
from shared.metadata.repositories.taxonomies import TaxonomyRepository

router = APIRouter(prefix="/v1/taxonomies", tags=["taxonomies"])

_YAML = {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}
_JSON = "application/json"
_BODY = {
    "required": True,
    "content": {
        _JSON: {"schema": {"type": "object", "description": "dimensions > subdimensions > seeds"}},
        "application/yaml": {"schema": {"type": "object"}},
    },
}


@router.post(
    "",
    status_code=201,
    operation_id="upload_taxonomy",
    responses={
        **problems(413, 415),
        200: {"description": "The project has this taxonomy already.", "model": TaxonomyView},
    },
    openapi_extra={"requestBody": _BODY},
)
async def upload(request: Request, response: Response, caller: Writer, state: State) -> TaxonomyView:
    """Upload a taxonomy as YAML or JSON. A job names it by the `id` returned.

    It is refused with a pointer where names are not unique, a pole has no seed, a subdimension has one pole only, or a
    machine check is unknown.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in _YAML and media_type != _JSON:
        raise Problem(
            415,
            "unsupported_media_type",
            f"the body is {media_type or 'of no declared type'!r}; send application/json or application/yaml",
        )
    body = await request.body()
    taxonomy = await run_in_threadpool(_parse, body)
    async with state.transaction() as session:
        stored, created = await TaxonomyRepository(session).add(caller.project_id, taxonomy)
    if not created:
        response.status_code = 200
    response.headers["Location"] = f"/v1/taxonomies/{stored.id}"
    return TaxonomyView.of(stored)


@router.get("", operation_id="list_taxonomies", responses=problems())
async def list_taxonomies(
    caller: Reader, state: State, limit: Limit = 50, before: Before = None
) -> Listing[TaxonomyView]:
    """The project's uploaded taxonomies, newest first; the one that Multifacet carries stands first on the first page."""
    async with state.transaction() as session:
        stored = await TaxonomyRepository(session).list(caller.project_id, before=before, limit=limit + 1)
    page = listing(stored, limit, TaxonomyView.of, lambda item: item.id)
    if before is None:
        page.items.insert(0, TaxonomyView.model_validate(_default().model_dump()))
    return page


@router.get("/{taxonomy_id}", operation_id="get_taxonomy", responses=problems(404))
async def get_taxonomy(taxonomy_id: str, caller: Reader, state: State) -> TaxonomyDetail:
    """A taxonomy with its whole body; `multifacet` is the one that Multifacet carries."""
    if taxonomy_id == DEFAULT_TAXONOMY_ID:
        return _default()
    async with state.transaction() as session:
        stored = await TaxonomyRepository(session).get(caller.project_id, taxonomy_id)
    if stored is None:
        raise not_found("taxonomy", taxonomy_id)
    return TaxonomyDetail(**TaxonomyView.of(stored).model_dump(), body=stored.body)


def _default() -> TaxonomyDetail:
    taxonomy = default_taxonomy()
    body = taxonomy.model_dump(mode="json")
    view = TaxonomyView.counted(DEFAULT_TAXONOMY_ID, taxonomy.name, taxonomy.version, body, None)
    return TaxonomyDetail(**view.model_dump(), body=body)


def _parse(body: bytes) -> Taxonomy:
    taxonomy = parse_taxonomy(body)
    refuse_unstorable(taxonomy)
    return taxonomy
