"""The functions behind `import twostage as ts`: each stage as a call, written for notebooks and for the three scripts."""
