"""`nxmi-export inspect PATH`: what is in a checkpoint or an artefact."""
