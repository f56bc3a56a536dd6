"""A dense task model and a budget in, the recipes that should lose least within it out."""

from nxmi_export.workflow.search.request import LatencyRequest, SearchRequest
from nxmi_export.workflow.search.result import SearchResult
from nxmi_export.workflow.search.run import search_model

__all__ = ["LatencyRequest", "SearchRequest", "SearchResult", "search_model"]
