"""The PyFlink functions: the only package of udfs that needs Flink."""
