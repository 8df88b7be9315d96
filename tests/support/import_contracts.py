"""An import-linter contract that names what may be imported, and so forbids the rest."""

from __future__ import annotations

from typing import ClassVar

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class MayImportOnlyContract(Contract):
    """Packages that may import some modules of another package, and nothing else of it.

    Attributes:
        source_modules: Packages, with everything in them.
        package: The package whose modules are public only in part.
        allowed_modules: What may be imported of it: each module itself, not what is in it.
    """

    type_name: ClassVar[str] = "may_import_only"

    source_modules = fields.SetField(subfield=fields.ModuleField())
    package = fields.ModuleField()
    allowed_modules = fields.SetField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find each direct import of a module that is not listed."""
        allowed = {module.name for module in self.allowed_modules}
        inside = f"{self.package.name}."
        broken = []
        for source in sorted(module.name for module in self.source_modules):
            for importer in sorted({source, *graph.find_descendants(source)}):
                for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                    is_inside = imported == self.package.name or imported.startswith(inside)
                    if is_inside and imported not in allowed:
                        broken.append(f"{importer} imports {imported}")
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that is not allowed, and what is."""
        for line in check.metadata["broken"]:
            output.print_error(line)
        allowed = ", ".join(sorted(module.name for module in self.allowed_modules))
        output.print(f"Allowed of {self.package.name}: {allowed}")
